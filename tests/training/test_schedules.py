"""Every schedule and optimiser of conf/, value by value and in a real step."""

import math

import pytest
import torch

from esr.config import build, compose, options
from esr.errors import UserError


def rates(schedule: str, steps: int, *overrides: str) -> list[float]:
    """Learning rate used in each step of a run of that length, from a full one of 1e-3."""
    cfg = compose(overrides=[f"schedule={schedule}", f"trainer.max_steps={steps}", *overrides])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1e-3)
    scheduler = build(cfg.schedule)(optimizer)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def cosine(at: float, length: float) -> float:
    return 1e-7 + (1e-3 - 1e-7) * (1 + math.cos(math.pi * at / length)) / 2


def test_constant():
    assert rates("constant", 5) == [1e-3] * 5


def test_multistep_halves_after_each_fifth():
    assert rates("multistep", 10) == pytest.approx([1e-3 / 2 ** (i // 2) for i in range(10)])
    absolute = rates("multistep", 10, "schedule.milestones=[3,7]")
    assert absolute == pytest.approx([1e-3] * 3 + [5e-4] * 4 + [2.5e-4] * 3)


def test_cosine():
    assert rates("cosine", 10) == pytest.approx([cosine(i, 10) for i in range(10)])


def test_cosine_restarts_four_times():
    assert rates("cosine_restarts", 20) == pytest.approx([cosine(i % 5, 5) for i in range(20)])
    assert rates("cosine_restarts", 6, "schedule.T_0=3") == pytest.approx(
        [cosine(i % 3, 3) for i in range(6)]
    )


def test_warmup_then_cosine():
    rise = [1e-3 * (0.01 + 0.99 * i / 2) for i in range(2)]
    fall = [cosine(i, 98) for i in range(98)]
    assert rates("warmup_cosine", 100) == pytest.approx(rise + fall)
    assert rates("warmup_constant", 100) == pytest.approx(rise + [1e-3] * 98)
    assert rates("warmup_cosine", 9, "schedule.steps=0", "schedule.after.T_max=9") == pytest.approx(
        [cosine(i, 9) for i in range(9)]
    )


def test_negative_warmup_is_refused():
    with pytest.raises(UserError, match=r"schedule.steps .* got -1"):
        rates("warmup_cosine", 3, "schedule.steps=-1")


@pytest.mark.parametrize("name", options("schedule"))
def test_every_schedule_survives_two_steps(name: str):
    assert len(rates(name, 2)) == 2


@pytest.mark.parametrize("name", options("schedule"))
def test_a_resumed_schedule_goes_on_where_it_was(name: str):
    cfg = compose(overrides=[f"schedule={name}", "trainer.max_steps=100"])

    def make():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1e-3)
        return optimizer, build(cfg.schedule)(optimizer)

    def run(optimizer, scheduler, steps: int) -> list[float]:
        values = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            values.append(optimizer.param_groups[0]["lr"])
        return values

    whole = run(*make(), 60)
    first = make()
    run(*first, 30)
    second = make()
    for old, new in zip(first, second, strict=True):
        new.load_state_dict(old.state_dict())
    assert run(*second, 30) == pytest.approx(whole[30:], rel=1e-9)


@pytest.mark.parametrize("name", options("optim"))
def test_every_optimiser_lowers_a_loss_and_skips_missing_gradients(name: str):
    if name in ("lion", "adan"):
        pytest.importorskip("pytorch_optimizer", reason="pip install esr[optim]")
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 3, 3, padding=1)
    x = torch.rand(2, 3, 8, 8)
    optimizer = build(compose(overrides=[f"optim={name}"]).optim)(list(net.parameters()))
    losses = []
    for _ in range(30):
        loss = (net(x) - x).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    before = net.weight.detach().clone()
    optimizer.zero_grad(set_to_none=True)
    optimizer.step()
    assert torch.equal(before, net.weight), "the guard relies on it"
