"""Every block in several networks: `model=X conv=Y` merges into exactly the network `model=X`."""

import copy

import pytest
import torch
from reparam_cases import BLOCKS, by_branches, photograph, train_a_little

from esr.config import build, compose, plain
from esr.errors import UserError
from esr.surgery.fuse import deploy_config, fusable, fuse, load_plain
from esr.zoo import catalogue as zoo

SMALL = {  # models that take `conv`, at widths that keep the product of models and blocks quick
    "rlfn": {"width": 10, "mid": 12, "depth": 1},
    "rfdn": {"width": 12, "depth": 1},
    "plainsr": {"width": 8, "depth": 2},
    "ecbsr_m4c8": {"depth": 2},
    "span_ntire2024": {"width": 8, "depth": 2, "gain": 1},
}
OWN = {  # the literature's pairs of network and block
    "ecbsr_m4c8": "ecb",
    "ecbsr_m4c16": "ecb",
    "ecbsr_m10c32": "ecb",
    "efdn": "edbb",
    "plainrfdn": "ecb",
    "imdn_plus": "three_branch",
    "clrfdn": "collapsible",
    "rfdn_pruned": "residual",
    "fmen": "rrrb",
    "span": "conv3xc",
    "span_ntire2024": "conv3xc",
    "plainsr": "repvgg",
}
TRAINED_WITH = {"fmen": {"batch_norm": True}}
PAIRS = [(model, conv, small) for model, small in SMALL.items() for conv in BLOCKS]
LARGE = {"efdn", "imdn_plus", "ecbsr_m10c32", "span"}  # seconds each
OWN_PAIRS = [
    pytest.param(model, conv, marks=pytest.mark.slow if model in LARGE else ())
    for model, conv in OWN.items()
]
PAIRS += [
    pytest.param(model, conv, TRAINED_WITH.get(model, {}), marks=pair.marks)
    for (model, conv), pair in zip(OWN.items(), OWN_PAIRS, strict=True)
]


def network(model, conv=None, **values):
    overrides = [f"model={model}", *([f"conv={conv}"] if conv else [])]
    cfg = compose("train", overrides + [f"model.{k}={v}" for k, v in values.items()])
    return build(cfg.model), plain(cfg.model)


def exact_gap(net, x):
    double = copy.deepcopy(net).double()
    with torch.no_grad():
        return (fuse(double)(x.double()) - double(x.double())).abs().max().item()


@pytest.mark.parametrize(("model", "conv", "values"), PAIRS)
def test_a_training_form_merges_into_the_plain_network(model, conv, values):
    torch.manual_seed(0)
    deploy, _ = network(model, **({} if model in TRAINED_WITH else values))
    net, config = network(model, conv, **values)
    by_branches(net).eval()
    x = photograph(31, 37)
    with torch.no_grad():
        merged = fuse(net)
        want = net(x)
        # an untrained network's output leaves [0, 1], and the rounding grows with it
        size = max(1.0, want.abs().max().item())
        assert (merged(x) - want).abs().max() <= 1e-5 * size
    assert exact_gap(net, x) <= 1e-12 * size
    assert fusable(net)
    assert not fusable(merged)
    assert repr(merged) == repr(deploy), "module for module the plain network"
    deploy.load_state_dict(merged.state_dict(), strict=True)
    assert repr(build(deploy_config(config))) == repr(deploy)


@pytest.mark.parametrize(("model", "conv"), OWN_PAIRS)
def test_after_training_steps_too(model, conv):
    torch.manual_seed(0)
    net, _ = network(model, conv, **TRAINED_WITH.get(model, {}))
    by_branches(net)
    x, target = photograph(24, 24), photograph(96, 96)
    train_a_little(net, x, target, steps=3, lr=1e-3)
    for height, width in [(24, 24), (17, 29), (net.min_size, net.min_size + 4)]:
        crop = photograph(height, width)
        with torch.no_grad():
            want = net(crop)
            size = max(1.0, want.abs().max().item())
            assert (fuse(net)(crop) - want).abs().max() <= 1e-5 * size
        assert exact_gap(net, crop) <= 1e-12 * size


@pytest.mark.parametrize("conv", BLOCKS)
def test_deploy_weights_start_a_training_form(conv):
    torch.manual_seed(0)
    deploy, _ = network("plainsr", width=8, depth=2)
    net, _ = network("plainsr", conv, width=8, depth=2)
    load_plain(net, deploy.state_dict())
    x = photograph(20, 23)
    with torch.no_grad():
        assert (net.eval()(x) - deploy(x)).abs().max() <= 1e-5


@pytest.mark.parametrize("model", ["fmen", "plainrfdn", "imdn_plus", "clrfdn", "rfdn_pruned"])
def test_official_weights_continue_in_the_training_form(shared, model):
    """A published deploy checkpoint as a training form computes what the checkpoint computes."""
    official = zoo.load(f"ntire2022/{model}", folder=shared / "ntire2022" / "weights")
    values = {"data_range": official.data_range, **TRAINED_WITH.get(model, {})}
    net, _ = network(model, OWN[model], **values)
    load_plain(net, official.state_dict())
    x = photograph(33, 40)
    with torch.no_grad():
        want = official(x)
        assert (by_branches(net).eval()(x) - want).abs().max() <= 2e-5
        assert (fuse(net)(x) - want).abs().max() <= 1e-5


def test_weights_of_another_network_are_refused_with_names():
    net, _ = network("plainsr", "ecb", width=8, depth=2)
    other, _ = network("plainsr", width=8, depth=3)
    with pytest.raises(UserError, match=r"no deploy weights of PlainSR: .*blocks\.2\.conv"):
        load_plain(net, other.state_dict())
    wider, _ = network("plainsr", width=9, depth=2)
    with pytest.raises(UserError, match=r"head\.weight"):
        load_plain(net, wider.state_dict())


def test_ntire2024_span_has_the_published_size():
    assert sum(p.numel() for p in network("span_ntire2024")[0].parameters()) == 150_688


def test_ecbsr_starts_as_nearest_neighbour_when_its_tail_is_zero():
    net, _ = network("ecbsr_m4c8")
    torch.nn.init.zeros_(net.tail.weight)
    torch.nn.init.zeros_(net.tail.bias)
    x = photograph(5, 6)
    nearest = x.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(net(x), nearest)
