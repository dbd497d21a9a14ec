"""What single entries promise beyond the reference outputs: search, bounded memory, quirks."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from esr.config import build, compose
from esr.errors import UserError
from esr.evaluation.tiling import Tiling, Upscaler
from esr.models.imdn import IMDTN, BlockAttention
from esr.models.nasnet_bn import CHOICES, InvertedResidual, NASNetBN, Residual
from esr.models.nlffc import NLFFC
from esr.zoo import catalogue as zoo


def test_a_position_of_the_searched_network_is_one_override() -> None:
    net = build(compose("train", ["model=nasnetbn", "model.blocks.0=mobile3"]).model)
    published = build(compose("train", ["model=nasnetbn"]).model)
    assert isinstance(published.blocks[0], Residual)
    assert isinstance(net.blocks[0], InvertedResidual)
    assert [type(b) for b in net.blocks[1:]] == [type(b) for b in published.blocks[1:]]


def test_every_choice_of_the_search_runs_at_every_position() -> None:
    for name in CHOICES:
        net = NASNetBN(scale=2, width=8, blocks=[name] * 3).eval()
        assert net(torch.rand(1, 3, 5, 7)).shape == (1, 3, 10, 14)


def test_an_unknown_block_is_told_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"mobile7.*mobile3, mobile6, plain, leaky"):
        NASNetBN(blocks=["mobile3", "mobile7"])


def test_tiles_bound_what_nlffc_holds() -> None:
    tile = zoo.entry("ntire2022/nlffc").tile
    assert tile is not None
    assert dict(tile) == {"size": 256, "overlap": 32}
    net = NLFFC(width=2, depth=1).eval()
    largest = 0

    def watch(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.shape[-2] * output.shape[-1])

    for module in net.modules():
        module.register_forward_hook(watch)
    tiled = Upscaler(net, 4, tiling=Tiling(tile["size"], tile["overlap"], "average"))
    assert tiled(torch.rand(1, 3, 260, 420)).shape == (1, 3, 1040, 1680)
    assert largest == (4 * 256) ** 2


def test_nlffc_sees_the_whole_image() -> None:
    """Which is why its tiled output is not its whole output, and no overlap would help."""
    torch.manual_seed(0)
    net = NLFFC(width=4, depth=2).double().eval()
    image = torch.rand(1, 3, 24, 24, dtype=torch.float64)
    other = image.clone()
    other[..., -1, :] = 1 - other[..., -1, :]
    with torch.no_grad():
        change = (net(image) - net(other)).abs()[..., :8, :]
    assert change.max() > 0


@pytest.mark.parametrize("side", [20, 32, 33, 64, 65])
def test_block_attention_equals_the_official_padding_by_a_full_64(side: int) -> None:
    torch.manual_seed(0)
    layer, x = BlockAttention(8, 4).double(), torch.randn(1, 8, side, side, dtype=torch.float64)
    with torch.no_grad():
        more = (side // 64 + 1) * 64 - side
        cells = F.pixel_unshuffle(F.pad(layer.qkv(x), (0, more, 0, more)), 4)
        mixed = torch.zeros_like(cells[:, :64])
        for top, left in itertools.product(range(0, cells.shape[2], 8), repeat=2):
            block = (..., slice(top, top + 8), slice(left, left + 8))
            q, k, v = cells[block].flatten(2).mT.split(64, dim=-1)
            out = (q @ k.mT).softmax(-1) @ v
            mixed[block] = out.mT.unflatten(-1, (8, 8))
        expected = x + layer.project(F.pixel_shuffle(mixed, 4)[..., :side, :side])
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("side", "padded"), [(3, 6), (5, 6), (6, 12), (7, 12)])
def test_imdtn_mirrors_the_image_up_to_the_next_window(side: int, padded: int) -> None:
    net = IMDTN(width=8, depth=1, kept=2, groups=2).eval()
    seen = []
    net.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 3, side, side)
    assert net(image).shape == (1, 3, 4 * side, 4 * side)
    assert seen[0].shape[2:] == (padded, padded)
    torch.testing.assert_close(seen[0][..., side, 0], image[..., side - 1, 0])
