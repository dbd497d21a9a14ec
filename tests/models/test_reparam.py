import copy

import pytest
import torch
import torch.nn.functional as F
from reparam_cases import BLOCKS, by_branches, factory, photograph, train_a_little
from torch import nn

from esr.errors import UserError
from esr.models.fmen import NormedHFAB
from esr.models.parts.gates import HFAB
from esr.models.reparam.blocks import ECB
from esr.models.reparam.branches import Chain, Identity
from esr.surgery.fuse import fuse, load_plain

SIZE3 = {"acb", "ecb", "edbb", "reprfn"}
NEEDS_BIAS = {"acb", "dbb", "repconv", "repvgg"}
NORMED = NEEDS_BIAS
STRIDE1 = {"rrrb"}
UNDILATED = {"dbb"}


def randomise(net):
    """Weights, biases, scales and running statistics far from their initial values."""
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.3, 2)
            elif value.is_floating_point() and not name.endswith(("mask", "like")):
                value.copy_(torch.randn_like(value) / max(1, value[0].numel()) ** 0.5)
    return by_branches(net)


def gap(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("trained", [False, True], ids=["random", "trained"])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_merged_convolution_equals_the_block_on_photographs(name, trained):
    torch.manual_seed(1)
    conv = factory(name)
    net = nn.Sequential(
        conv(3, 8, 3, padding=1), nn.PReLU(8), conv(8, 8, 3, padding=1), conv(8, 3, 3, padding=1)
    ).eval()
    x = photograph(41, 37)
    by_branches(net)
    if trained:
        train_a_little(net, x, x)
    with torch.no_grad():
        merged = fuse(net)
        assert merged(x).shape == x.shape
        assert gap(merged(x), net(x)) <= 1e-5
        double, x64 = copy.deepcopy(net).double(), x.double()
        assert gap(fuse(double)(x64), double(x64)) <= 1e-12
    assert [type(module) for module in merged] == [nn.Conv2d, nn.PReLU, nn.Conv2d, nn.Conv2d]


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("name", BLOCKS)
def test_nothing_but_border(name, side):
    torch.manual_seed(side)
    block = randomise(factory(name)(4, 4, 3, padding=1)).double().eval()
    x = torch.randn(2, 4, side, side + 1, dtype=torch.float64)
    with torch.no_grad():
        assert gap(block.fuse()(x), block(x)) <= 1e-12


GEOMETRIES = {
    "narrowing": {"in_channels": 6, "out_channels": 4, "kernel_size": 3, "padding": 1},
    "widening": {"in_channels": 4, "out_channels": 12, "kernel_size": 3, "padding": 1},
    "point": {"kernel_size": 1},
    "five": {"kernel_size": 5, "padding": 2},
    "flat": {"kernel_size": (3, 5), "padding": (1, 2)},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "grouped widening": {
        "in_channels": 4,
        "out_channels": 8,
        "kernel_size": 3,
        "padding": 1,
        "groups": 4,
    },
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 6},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "bias-free": {"kernel_size": 3, "padding": 1, "bias": False},
    "unpadded": {"kernel_size": 3, "padding": 0},
    "even": {"kernel_size": 2},
}


def refusal(name, geometry):
    if geometry == "point" and name in SIZE3:
        return "kernels, got 1x1"
    if geometry == "five" and name in SIZE3 - {"acb"}:
        return "exists for 3x3 kernels, got 5x5"
    if geometry == "flat" and name in SIZE3:
        return "kernels, got 3x5"
    if geometry == "strided" and name in STRIDE1:
        return "needs stride 1, got 2"
    if geometry == "dilated" and name in UNDILATED:
        return "no dilated form, got dilation=2"
    if geometry == "bias-free" and name in NEEDS_BIAS:
        return "bias=False is impossible"
    return {"unpadded": "got padding=0", "even": "odd kernel size, got 2"}.get(geometry)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_geometry_is_exact_or_refused_by_name(name, geometry):
    torch.manual_seed(0)
    arguments = {"in_channels": 6, "out_channels": 6, **GEOMETRIES[geometry]}
    message = refusal(name, geometry)
    if message:
        with pytest.raises(UserError, match=message):
            factory(name)(**arguments)
        return
    block = randomise(factory(name)(**arguments)).double().eval()
    x = torch.randn(1, arguments["in_channels"], 9, 7, dtype=torch.float64)
    plain = nn.Conv2d(**arguments)
    with torch.no_grad():
        merged = block.fuse()
        assert gap(merged(x), block(x)) <= 1e-12
    assert repr(merged) == repr(plain)
    shapes = {key: value.shape for key, value in merged.state_dict().items()}
    assert shapes == {key: value.shape for key, value in plain.state_dict().items()}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_takes_the_arguments_of_a_convolution_by_position_too(name):
    merged = factory(name)(4, 6, 3, 1, 1, 1, 2, True).fuse()
    assert repr(merged) == repr(nn.Conv2d(4, 6, 3, 1, 1, 1, 2, True))
    with pytest.raises(TypeError, match=r"^\w+: .* 'pading'"):
        factory(name)(4, 6, 3, pading=1)


@pytest.mark.parametrize("name", BLOCKS)
def test_from_deploy_weights_the_other_branches_start_at_zero(name):
    torch.manual_seed(3)
    plain = nn.Conv2d(6, 5, 3, padding=1).double()
    block = randomise(factory(name)(6, 5, 3, padding=1)).double().eval()
    block.load_plain(plain.state_dict())
    x = torch.randn(1, 6, 8, 9, dtype=torch.float64)
    with torch.no_grad():
        assert gap(block(x), plain(x)) <= 1e-12
        for branch_name, branch in block.branches.items():
            if branch_name != block.main and not isinstance(branch, Identity):
                assert branch.kernel().weight.abs().max() == 0
    trainable = [p for p in block.parameters() if p.requires_grad]
    if name not in NORMED:
        block.train()
    before = [p.detach().clone() for p in trainable]
    optimizer = torch.optim.Adam(trainable, lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        block(x).square().mean().backward()
        optimizer.step()
    still = [i for i, p in enumerate(trainable) if torch.equal(p, before[i])]
    assert not still, "a silenced branch must be able to learn again"


def test_fmens_attention_starts_from_deploy_weights():
    torch.manual_seed(8)
    plain = HFAB(6, 4, nn.Conv2d(4, 4, 3, padding=1)).double()
    normed = randomise(NormedHFAB(6, 4, factory("rrrb")(4, 4, 3, padding=1))).double().eval()
    load_plain(normed, plain.state_dict())
    x = torch.randn(1, 6, 8, 9, dtype=torch.float64)
    with torch.no_grad():
        assert gap(normed(x), plain(x)) <= 1e-12


@pytest.mark.parametrize("name", BLOCKS)
def test_dtype_flags_and_original_survive_the_merge(name):
    block = factory(name)(4, 4, 3, padding=1).to(torch.bfloat16).eval().requires_grad_(False)
    before = {key: value.clone() for key, value in block.state_dict().items()}
    merged = block.fuse()
    assert merged.weight.dtype == torch.bfloat16
    assert not merged.training
    assert not merged.weight.requires_grad
    assert all(torch.equal(value, block.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    "name", ["ecb", "edbb", "rrrb", "three_branch", "collapsible", "conv3xc", "reprfn"]
)
def test_collapsed_training_is_the_same_function_and_gradient(name):
    torch.manual_seed(4)
    block = randomise(factory(name)(4, 4, 3, padding=1)).double()
    other = factory(name)(4, 4, 3, padding=1, collapsed=True).double()
    other.load_state_dict(block.state_dict())
    assert other.collapsed
    assert not block.collapsed
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    grads = []
    for module in (block, other):
        module(x).square().sum().backward()
        grads.append([p.grad for p in module.parameters()])
    assert gap(block(x), other(x)) <= 1e-12
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("retire", [False, True], ids=["afresh", "for good"])
@pytest.mark.parametrize("name", BLOCKS)
def test_absorbing_branches_keeps_the_function(name, retire):
    torch.manual_seed(5)
    block = randomise(factory(name)(4, 4, 3, padding=1)).double().eval()
    x = torch.randn(1, 4, 6, 5, dtype=torch.float64)
    others = block.mergeable()
    with torch.no_grad():
        before = block(x)
        block.absorb(others, retire=retire)
        assert gap(block(x), before) <= 1e-10
        assert gap(block.fuse()(x), before) <= 1e-10
    if retire:
        assert block.branches[block.main](x).shape == before.shape or name == "conv_lora"
        assert not any(p.requires_grad for n in others for p in block.branches[n].parameters())


def test_absorbing_what_is_not_there_lists_what_is():
    with pytest.raises(UserError, match=r"cannot merge 'sobel'; it has expand, sobel_x"):
        ECB(4, 4, 3, padding=1).absorb(["sobel"])


def test_a_chain_too_narrow_for_deploy_weights_says_so():
    plain = nn.Conv2d(8, 8, 3, padding=1)
    block = factory("collapsible")(8, 8, 3, padding=1, mid_channels=4)
    with pytest.raises(UserError, match="4 channels cannot hold a 8 -> 8 kernel"):
        block.load_plain(plain.state_dict())


def test_ecb_branches_are_the_papers():
    """Sobel-x of a ramp along x is 8 times the slope; of a constant zero, the Laplacian too."""
    block = ECB(1, 1, 3, padding=1).double()
    with torch.no_grad():
        for name in ("sobel_x", "sobel_y", "laplacian"):
            edge = block.branches[name]
            edge.scale.fill_(1)
            edge.bias.zero_()
            edge.point.weight.fill_(1)
            edge.point.bias.zero_()
        ramp = torch.arange(7.0, dtype=torch.float64).expand(1, 1, 7, 7)
        inner = (..., slice(2, 5), slice(2, 5))
        assert (block.branches["sobel_x"](ramp)[inner] == -8).all()
        assert block.branches["sobel_y"](ramp)[inner].abs().max() == 0
        assert block.branches["laplacian"](ramp)[inner].abs().max() == 0


def test_chain_pads_before_the_first_convolution():
    """Zero padding of the map in the middle, the usual mistake, gives other borders."""
    torch.manual_seed(6)
    chain = factory("ecb")(2, 2, 3, padding=1).double().branches["expand"]
    assert isinstance(chain, Chain)
    assert chain.expand is not None
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        wrong = chain.spatial(F.pad(chain.expand(x), (1, 1, 1, 1)))
        assert gap(chain(x)[..., 1:-1, 1:-1], wrong[..., 1:-1, 1:-1]) < 1e-12
        assert gap(chain(x), wrong) > 1e-3


@pytest.mark.parametrize("name", BLOCKS)
def test_merging_rounds_once(name):
    torch.manual_seed(7)
    block = randomise(factory(name)(16, 16, 3, padding=1)).eval()
    exact = copy.deepcopy(block).double().fuse()
    merged = block.fuse()
    assert torch.equal(merged.weight, exact.weight.float())
    assert torch.equal(merged.bias, exact.bias.float())
