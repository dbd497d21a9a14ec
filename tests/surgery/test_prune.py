"""Pruning: exact published structures, nothing lost with what was zero, budgets, bad input."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from esr.config import build, compose, plain
from esr.errors import UserError
from esr.metrics.complexity import complexity
from esr.models.imdn import IMDN
from esr.models.rfdn import RFDN
from esr.models.rlfn import RLFN
from esr.surgery import budget, channels, importance, rebuild
from esr.surgery.prune import Prune
from esr.surgery.widths import analyse

RLFN_CONFIG = {
    "_target_": "esr.models.rlfn.RLFN",
    "width": 12,
    "mid": 16,
    "depth": 2,
    "esa_width": 8,
}


def small_rlfn(seed: int = 0) -> tuple[RLFN, dict]:
    torch.manual_seed(seed)
    return RLFN(width=12, mid=16, depth=2, esa_width=8).eval(), dict(RLFN_CONFIG)


def patches(count: int = 4) -> list[dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(1)
    lr = torch.rand(count, 3, 24, 24, generator=random)
    return [{"lr": lr, "hr": torch.rand(count, 3, 96, 96, generator=random)}]


def test_rfdn_becomes_the_published_pruned_entry():
    config = {"_target_": "esr.models.rfdn.RFDN", "data_range": 255.0}
    net, smaller = Prune(widths={"width": 40, "distilled": 20})(RFDN(data_range=255.0), config)
    found = complexity(net)
    assert (found.params, found.convs) == (289_888, 64)
    assert round(found.flops / 1e9, 2) == 17.70
    assert round(found.acts / 1e6, 2) == 91.72
    entry = build(compose("train", ["ntire2022=rfdn_pruned"]).model)
    assert rebuild.shapes(rebuild.outline(smaller)) == {
        k: tuple(v.shape) for k, v in entry.state_dict().items()
    }


def test_rlfn_becomes_the_challenge_winner():
    config = {"_target_": "esr.models.rlfn.RLFN", "width": 48, "mid": 48, "data_range": 255.0}
    net, smaller = Prune(widths={"width": 46})(RLFN(width=48, data_range=255.0), config)
    found = complexity(net)
    assert (found.params, found.convs) == (317_218, 39)
    assert round(found.flops / 1e9, 2) == 19.70
    assert round(found.acts / 1e6, 2) == 80.05
    assert smaller["mid"] == 48


@pytest.mark.parametrize(
    ("entry", "wide", "widths"),
    [
        ("rfdn_pruned", {"width": 50, "distilled": 25}, {"width": 40, "distilled": 20}),
        ("rlfn", {"width": 48}, {"width": 46}),
    ],
)
def test_official_weights_load_into_what_was_pruned(shared: Path, entry, wide, widths):
    from esr.zoo import catalogue as zoo

    folder = shared / "ntire2022" / "weights"
    official = zoo.load(f"ntire2022/{entry}", folder=folder)
    config = {**plain(compose("train", [f"ntire2022={entry}"]).model), **wide}
    net, _ = Prune(widths=widths)(rebuild.build_network(config), config)
    net.load_state_dict(official.state_dict())
    image = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        assert torch.equal(net(image), official(image))


@pytest.mark.parametrize(
    ("net", "config", "widths"),
    [
        (RLFN(width=12, mid=16, depth=2, esa_width=8), RLFN_CONFIG, {"width": 9, "mid": 11}),
        (
            RFDN(width=12, distilled=6, esa_width=4, depth=2),
            {
                "_target_": "esr.models.rfdn.RFDN",
                "width": 12,
                "distilled": 6,
                "esa_width": 4,
                "depth": 2,
            },
            {"width": 9, "distilled": 4, "esa_width": 3},
        ),
        (
            IMDN(width=16, depth=2, outputs=(16, 16, 16, 4)),
            {
                "_target_": "esr.models.imdn.IMDN",
                "width": 16,
                "depth": 2,
                "outputs": [16, 16, 16, 4],
            },
            {"width": 12, "outputs": [12, 13, 11, 3]},
        ),
    ],
)
def test_channels_that_contribute_nothing_leave_no_trace(net, config, widths):
    structure = analyse(net, config)
    counts = structure.counts({**structure.config, **widths})
    random = torch.Generator().manual_seed(3)
    scores = [torch.rand(s.size, generator=random) for s in structure.segments]
    kept = rebuild.strongest(scores, counts)
    net.load_state_dict(rebuild.silence(net.state_dict(), structure.segments, kept))
    pruned, smaller = Prune(widths=widths)(net, config)
    image = torch.rand(2, 3, 31, 29)
    with torch.no_grad():
        assert (pruned(image) - net.eval()(image)).abs().max() <= 1e-6
    assert all(smaller[name] == value for name, value in widths.items())


def test_the_result_is_an_ordinary_network(tmp_path: Path):
    from esr.zoo.deploy import save_deploy
    from esr.zoo.open import load

    net, config = small_rlfn()
    before = copy.deepcopy(net.state_dict())
    pruned, smaller = Prune(target={"params": 0.6})(net, config)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    json.dumps(smaller)
    save_deploy(pruned, smaller, tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    image = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(again(image), pruned(image))


@pytest.mark.parametrize("what", ["params", "flops", "acts", "channels"])
@pytest.mark.parametrize("spread", ["uniform", "global"])
def test_targets_are_met_and_not_overshot(what, spread):
    net, config = small_rlfn()
    _, smaller = Prune(target={what: 0.7}, spread=spread)(net, config)
    share = budget.cost(smaller, what) / budget.cost(config, what)
    assert 0.5 < share <= 0.7


def test_widths_are_rounded_to_what_hardware_likes():
    net, config = small_rlfn()
    _, smaller = Prune(target={"flops": 0.7}, round_to=4)(net, config)
    assert all(smaller[name] % 4 == 0 for name in ("width", "mid", "esa_width"))


@pytest.mark.parametrize("spread", ["uniform", "global"])
def test_a_width_that_need_not_go_down_is_rounded_too(spread):
    net, config = RLFN(width=13, mid=15, depth=1, esa_width=8), {**RLFN_CONFIG, "depth": 1}
    config |= {"width": 13, "mid": 15}
    _, smaller = Prune({"flops": 0.95}, round_to=4, spread=spread)(net, config)
    assert all(smaller[name] % 4 == 0 for name in ("width", "mid", "esa_width"))


def test_fixed_arguments_keep_their_value():
    net, config = small_rlfn()
    _, smaller = Prune(target={"flops": 0.7}, fixed=["esa_width"])(net, config)
    assert smaller["esa_width"] == 8
    assert smaller["mid"] < 16


def test_per_layer_budgets_where_a_class_takes_lists():
    torch.manual_seed(0)
    net = IMDN(width=16, depth=1, outputs=(16, 16, 16, 4))
    config = {
        "_target_": "esr.models.imdn.IMDN",
        "width": 16,
        "depth": 1,
        "outputs": [16, 16, 16, 4],
    }
    with torch.no_grad():  # the second convolution's later half is nearly unused
        net.blocks[0].convs[1].weight[10:] *= 1e-3
        net.blocks[0].convs[2].weight[:, 6:] *= 1e-3
    _, smaller = Prune(target={"flops": 0.8}, spread="per_layer")(net, config)
    assert smaller["outputs"][1] < min(smaller["outputs"][0], smaller["outputs"][2])


def test_per_layer_budgets_write_one_number_as_a_list():
    net, config = small_rlfn()
    state = net.state_dict()
    with torch.no_grad():  # the second block needs few channels inside
        state["blocks.1.convs.0.weight"][6:] *= 1e-3
        state["blocks.1.convs.1.weight"][:, 6:] *= 1e-3
        state["blocks.1.convs.1.weight"][6:] *= 1e-3
        state["blocks.1.convs.2.weight"][:, 6:] *= 1e-3
    pruned, smaller = Prune({"flops": 0.8}, spread="per_layer")(net, config)
    assert smaller["mid"][0] > smaller["mid"][1]
    assert [len(block.convs[0].bias) for block in pruned.blocks] == smaller["mid"]
    with pytest.raises(UserError, match="mid has 3 numbers, and there are 2 blocks"):
        rebuild.build_network({**config, "mid": [4, 4, 4]})


IMPORTANCES = [
    importance.Magnitude(1),
    importance.Magnitude(2),
    importance.Taylor(),
    importance.Activation(),
    importance.LossChange(),
]


@pytest.mark.parametrize("measure", IMPORTANCES, ids=lambda m: type(m).__name__)
def test_importances_drop_the_channel_that_does_nothing(measure):
    net, config = small_rlfn()
    with torch.no_grad():
        conv = net.blocks[0].convs[0]
        conv.weight[5].zero_()
        conv.bias[5].zero_()
        net.blocks[0].convs[1].weight[:, 5].zero_()
    structure = analyse(net, config)
    index = next(i for i, s in enumerate(structure.segments) if s.writers == ("blocks.0.convs.0",))
    given = patches()
    if isinstance(measure, importance.LossChange):  # from where no channel can be left out for free
        given = [{"lr": b["lr"], "hr": net(b["lr"]).detach()} for b in given]
    scores = measure(structure.net, structure.segments, given)
    assert int(scores[index].argmin()) == 5


def test_taylor_predicts_the_loss_change():
    net, config = small_rlfn()
    structure = analyse(net, config)
    index = next(i for i, s in enumerate(structure.segments) if s.writers == ("blocks.0.convs.1",))
    segments = structure.segments[index : index + 1]
    target = [{"lr": b["lr"], "hr": net(b["lr"]).detach() * 0.9} for b in patches(1)]
    taylor = importance.Taylor()(structure.net, segments, target)[0]
    state, exact = structure.net.state_dict(), []
    for channel in range(16):
        with importance.silenced(state, segments[0], channel), torch.no_grad():
            changed = nn.functional.l1_loss(structure.net(target[0]["lr"]), target[0]["hr"])
        base = nn.functional.l1_loss(structure.net(target[0]["lr"]), target[0]["hr"])
        exact.append(float((changed - base.detach()).abs()))
    correlation = torch.corrcoef(torch.stack([taylor, torch.tensor(exact).double()]))[0, 1]
    assert correlation > 0.8


@pytest.mark.parametrize("measure", IMPORTANCES[3:], ids=lambda m: type(m).__name__)
def test_weight_normed_layers_are_judged_too(measure):
    """They have directions and lengths of filters in place of weights."""
    config = {"_target_": "esr.models.lateral.RLCSR", "width": 8, "kept": 4, "depth": 1}
    structure = analyse(rebuild.build_network(config), config)
    net, segments = structure.net, structure.segments
    index = next(
        i
        for i, segment in enumerate(segments)
        if not segment.fixed and any(name.endswith(channels.LENGTH) for name, _ in segment.rows)
    )
    state = net.state_dict()
    for slot, rows in segments[index].rows.items():
        if channels.computes(net, slot) and channels.can_be_zero(slot):
            state[slot[0]].index_fill_(slot[1], rows[3], 0)
    given = patches()
    if isinstance(measure, importance.LossChange):
        given = [{"lr": b["lr"], "hr": net(b["lr"]).detach()} for b in given]
    scores = measure(net, segments, given)[index]
    assert scores[3] == scores.min() < scores.max()


def test_batch_norm_scale_reads_batch_norms_and_refuses_without():
    config = {"_target_": "esr.models.nasnet_bn.NASNetBN", "width": 8, "blocks": ["plain"] * 2}
    normed = rebuild.build_network(config)
    with torch.no_grad():
        for norm in (module for module in normed.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.weight[5] = 1e-3
    widths = {"width": 7}
    pruned, _ = Prune(widths=widths, importance=importance.BatchNormScale())(normed, config)
    left = [module.weight for module in pruned.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(left) == 4
    assert all(torch.equal(weight, torch.ones(7)) for weight in left)
    net, config = small_rlfn()
    with pytest.raises(UserError, match="no batch norm"):
        Prune({"flops": 0.7}, importance=importance.BatchNormScale())(net, config)


def test_training_form_is_merged_first():
    from esr.models.reparam.blocks import ECB

    torch.manual_seed(0)
    net = RLFN(width=12, mid=16, depth=2, esa_width=8, conv=ECB)
    config = {
        **RLFN_CONFIG,
        "conv": {"_target_": "esr.models.reparam.blocks.ECB", "_partial_": True},
    }
    pruned, smaller = Prune(widths={"mid": 12})(net, config)
    assert "conv" not in smaller
    assert type(pruned.blocks[0].convs[0]) is nn.Conv2d


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either to a target"),
        ({"target": {"flops": 0.5}, "widths": {"width": 4}}, "either to a target"),
        ({"target": {"flops": 0}}, "leaves nothing"),
        ({"target": {"speed": 0.5}}, "expected one or more of params"),
        ({"target": {"flops": 1e-7}}, "The best that pruning RLFN reaches is flops"),
        ({"target": {"flops": 0.5}, "fixed": ["wdith"]}, "there are: width, mid, esa_width"),
        ({"target": {"flops": 0.5}, "spread": "equal"}, "expected one of uniform"),
        ({"target": {"flops": 0.5}, "round_to": 0}, "round_to=0"),
        ({"target": {"flops": 0.5}, "fixed": ["width", "mid", "esa_width"]}, "no width that can"),
        ({"widths": {"width": 0}}, "at least 1"),
        ({"widths": {"width": 13}}, "at most what it is"),
        ({"widths": {"breadth": 3}}, "there are: esa_width, mid, width"),
        ({"target": {"flops": 0.5}, "importance": importance.Taylor()}, "looks at patches"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    net, config = small_rlfn()
    with pytest.raises(UserError, match=message):
        Prune(**arguments)(net, config)


def test_wrapped_networks_are_named():
    net, config = small_rlfn()
    average = torch.optim.swa_utils.AveragedModel(net)
    with pytest.raises(UserError, match=r"wrapped in AveragedModel: .*net\.module"):
        Prune({"flops": 0.7})(average, config)
    with pytest.raises(UserError, match=r"wrapped in DataParallel: .*net\.module"):
        Prune({"flops": 0.7})(nn.DataParallel(net), config)
    with pytest.raises(UserError, match=r"wrapped in OptimizedModule: .*net\._orig_mod"):
        Prune({"flops": 0.7})(torch.compile(net), config)  # type: ignore[arg-type]


def test_a_network_compiled_in_place_is_pruned():
    net, config = small_rlfn()
    net.compile()
    pruned, _ = Prune(widths={"width": 10})(net, config)
    with torch.no_grad():
        assert pruned(torch.rand(1, 3, 16, 16)).shape == (1, 3, 64, 64)


def test_reasons_are_told_once():
    config = {"_target_": "esr.models.bsrn.LKDN", "width": 8, "depth": 2}
    with pytest.raises(UserError, match=r"no width that can be pruned.*attention") as caught:
        Prune({"flops": 0.7})(rebuild.build_network(config), config)
    assert len(str(caught.value)) < 500


def test_costs_fall_in_small_steps():
    config = {**RLFN_CONFIG, "width": 46, "mid": 48}
    net = rebuild.build_network(config)
    for target in (0.9, 0.8, 0.65):
        _, smaller = Prune({"flops": target})(net, config)
        assert 0.97 * target < budget.cost(smaller, "flops") / budget.cost(config, "flops")


def test_a_configuration_of_another_network_is_refused():
    net, config = small_rlfn()
    with pytest.raises(UserError, match="does not build the network"):
        Prune({"flops": 0.7})(net, {**config, "width": 13})


def test_runtime_search_finds_the_width_behind_noise():
    from esr.surgery.timing import search_runtime

    noise = iter([1.03, 0.97, 1.02, 0.99, 1.01, 0.98, 1.0, 1.01, 0.99, 1.0])

    def time(config: dict) -> float:  # a constant part that pruning does not touch
        return (0.3 + 0.7 * (config["width"] / 100) ** 2) * next(noise)

    found, reached = search_runtime(0.65, lambda share: {"width": round(100 * share**0.5)}, time)
    assert found is not None
    assert abs(0.3 + 0.7 * (found["width"] / 100) ** 2 - 0.65) < 0.05 * 0.65
    assert reached == pytest.approx(0.65, rel=0.03)


def test_runtime_that_cannot_be_reached_says_what_can():
    from esr.surgery.timing import search_runtime

    def candidate(share: float) -> dict | None:
        return {"width": share} if share > 0.1 else None

    found, best = search_runtime(0.2, candidate, lambda config: 0.5 + 0.5 * config["width"])
    assert found is None
    assert 0.5 < best < 0.65


def test_calibration_takes_what_it_needs_and_no_more():
    from esr.surgery.calibration import draw

    assert sum(len(batch["lr"]) for batch in draw(patches(4) * 3, 6)) == 6
    assert sum(len(batch["lr"]) for batch in draw(patches(4), 6)) == 4
    with pytest.raises(UserError, match="no training patches"):
        draw([], 6)
