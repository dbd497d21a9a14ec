"""Distillation: values against float64, a teacher that nobody trains or saves, and bad input."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from esr.errors import UserError
from esr.losses.distillation import (
    AffinityDistillation,
    FeatureDistillation,
    MultiAnchorDistillation,
    OutputDistillation,
)
from esr.losses.pixel import L1
from esr.losses.weighted import WeightedLoss
from esr.models.network import Network


class Tiny(Network):
    """Blocks of convolutions with a batch norm, so that a mode or a copy would show."""

    def __init__(self, width: int = 4, scale: int = 2, blocks: int = 3):
        super().__init__(scale)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Tanh())
            for _ in range(blocks)
        )
        self.tail = nn.Sequential(
            nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        for block in self.blocks:
            x = block(x)
        return self.tail(x)


PAIRS = {"blocks.1": "blocks.2"}
TERMS = {
    "output": lambda teacher: OutputDistillation(teacher),
    "feature": lambda teacher: FeatureDistillation(teacher, PAIRS),
    "affinity": lambda teacher: AffinityDistillation(teacher, PAIRS, grid=5),
    "multi-anchor": lambda teacher: MultiAnchorDistillation(
        teacher, {"blocks.0": "blocks.0", "blocks.1": "blocks.2"}, anchor_weights=(0.25, 2.0)
    ),
}


@pytest.fixture
def nets() -> tuple[Tiny, Tiny]:
    torch.manual_seed(0)
    student, teacher = Tiny(4), Tiny(6)
    for module in teacher.modules():  # running statistics that differ from any batch's
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return student.train(), teacher.train()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 10, 12, generator=generator), torch.rand(
        2, 3, 20, 24, generator=generator
    )


def outputs(net: nn.Module, names: list[str], lr: torch.Tensor) -> list[torch.Tensor]:
    """Output and features by running the net by hand, in float64."""
    net = copy.deepcopy(net).double()
    seen = {}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: seen.__setitem__(name, output)
        )
    sr = net(lr.double())
    return [sr.detach(), *(seen[name].detach() for name in names)]


def test_values_equal_a_float64_reference(nets):
    student, teacher = nets
    lr, hr = batch()
    sr_s, s0, s1 = outputs(student, ["blocks.0", "blocks.1"], lr)
    sr_t, t0, t2 = outputs(teacher.eval(), ["blocks.0", "blocks.2"], lr)

    def measured(term) -> float:
        term.bind(student)
        return term(student(lr), hr, lr).item()

    expected = (sr_s - sr_t).abs().mean().item()
    assert measured(OutputDistillation(teacher)) == pytest.approx(expected, abs=1e-6)
    expected = (sr_s - sr_t).square().mean().item()
    assert measured(OutputDistillation(teacher, "l2")) == pytest.approx(expected, abs=1e-6)

    term = FeatureDistillation(teacher, PAIRS)
    value = measured(term)
    adapted = F.conv2d(s1, *(p.detach().double() for p in term.adapters[0].parameters()))
    assert value == pytest.approx((adapted - t2).abs().mean().item(), abs=1e-6)

    def affinity(x: torch.Tensor) -> np.ndarray:
        x = F.adaptive_avg_pool2d(x, 5).flatten(2).numpy()
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return np.einsum("ncp,ncq->npq", x, x)

    expected = np.abs(affinity(s1) - affinity(t2)).mean()
    assert measured(AffinityDistillation(teacher, PAIRS, grid=5)) == pytest.approx(
        expected, abs=1e-6
    )

    term = TERMS["multi-anchor"](teacher)
    value = measured(term)
    expected = (sr_s - sr_t).abs().mean().item()
    anchors = zip((0.25, 2.0), term.adapters, (s0, s1), (t0, t2), strict=True)
    for weight, adapter, a, b in anchors:
        adapted = F.conv2d(a, *(p.detach().double() for p in adapter.parameters()))
        expected += weight * ((adapted - b).abs().mean() / (b.std() + 1e-6)).item()
    assert value == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", TERMS)
def test_teacher_is_frozen_in_eval_mode_and_saved_nowhere(kind: str, nets):
    student, teacher = nets
    lr, hr = batch()
    before = copy.deepcopy(teacher.state_dict())
    loss = WeightedLoss({"l1": L1(), "distill": TERMS[kind](teacher)})
    loss.bind(student)
    loss.train()  # as a Lightning module does to everything it owns
    owned = set(loss.parameters()) | set(loss.buffers())
    assert owned.isdisjoint(set(teacher.parameters()) | set(teacher.buffers()))
    assert len(loss.state_dict()) == sum(1 for _ in loss.parameters()), "adapters only"
    loss(student(lr), hr, lr).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    assert student.head.weight.grad is not None


@pytest.mark.parametrize("kind", TERMS)
def test_a_copy_of_student_and_loss_works_alone_and_shares_the_teacher(kind: str, nets):
    """An average of weights copies the whole module: before the first step and after some."""
    student, teacher = nets
    lr, hr = batch()
    loss = WeightedLoss({"distill": TERMS[kind](teacher)})
    loss.bind(student)
    pair = nn.ModuleDict({"net": student, "loss": loss})
    expected = loss(student(lr), hr, lr)
    twin = copy.deepcopy(pair)
    assert torch.equal(twin["loss"](twin["net"](lr), hr, lr), expected)
    student.eval()(lr)
    student.train()
    assert copy.deepcopy(student)(lr).shape == hr.shape
    term = twin["loss"]["distill"]
    assert term.teacher is loss["distill"].teacher  # pyright: ignore


def test_no_feature_is_kept_in_evaluation_or_after_the_step(nets):
    student, teacher = nets
    lr, hr = batch()
    term = FeatureDistillation(teacher, PAIRS)
    term.bind(student)
    with torch.no_grad():
        student(lr)
    student.eval()(lr)
    assert term._features.values == {}
    student.train()
    term(student(lr), hr, lr)
    assert term._features.values == {}
    assert term.teacher.features.values == {}


def test_binding_leaves_the_student_as_it_was(nets):
    student, teacher = nets
    before = copy.deepcopy(student.state_dict())
    FeatureDistillation(teacher, PAIRS).bind(student)
    assert student.training
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())


def test_teacher_in_reduced_precision_is_near_and_answers_in_float32(nets):
    student, teacher = nets
    lr, _ = batch()
    exact, reduced = OutputDistillation(teacher), OutputDistillation(teacher, precision="bf16")
    values = []
    for term in (exact, reduced):
        term.bind(student)
        with torch.autocast("cpu", enabled=False):
            sr, _ = term.teacher(lr)
        assert sr.dtype == torch.float32
        values.append(sr)
    assert 0 < (values[0] - values[1]).abs().max() < 0.05


def test_teacher_can_be_made_late(nets):
    student, teacher = nets
    made = []
    term = OutputDistillation(lambda: made.append(1) or teacher)
    assert not made
    term.bind(student)
    assert made == [1]


def test_adapters_are_made_only_where_widths_differ(nets):
    _, teacher = nets
    torch.manual_seed(0)
    term = FeatureDistillation(teacher, PAIRS)
    term.bind(Tiny(6))
    assert not list(term.parameters())
    term.bind(Tiny(5))
    assert [p.shape for p in term.parameters()] == [(6, 5, 1, 1), (6,)]


def test_bad_input_is_named(nets):
    student, teacher = nets
    with pytest.raises(UserError, match=r"teacher \(Tiny\) upscales by 3, the student .* by 2"):
        OutputDistillation(Tiny(scale=3)).bind(student)
    with pytest.raises(UserError, match=r"student \(Tiny\) has no module 'blocks.9'; it has: head"):
        FeatureDistillation(teacher, {"blocks.9": "blocks.0"}).bind(student)
    with pytest.raises(UserError, match=r"teacher \(Tiny\) has no module 'body'"):
        FeatureDistillation(teacher, {"blocks.0": "body"}).bind(student)
    with pytest.raises(UserError, match="differ in height or width"):
        FeatureDistillation(teacher, {"blocks.0": "tail"}).bind(student)
    with pytest.raises(UserError, match="needs pairs"):
        FeatureDistillation(teacher, {})
    with pytest.raises(UserError, match="1 anchors need as many"):
        MultiAnchorDistillation(teacher, PAIRS, anchor_weights=(1.0, 2.0))
    with pytest.raises(UserError, match="distance is one of l1, l2, got 'l3'"):
        OutputDistillation(teacher, distance="l3")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="precision is one of 32, bf16, 16"):
        OutputDistillation(teacher, precision="8").bind(student)  # type: ignore[arg-type]
