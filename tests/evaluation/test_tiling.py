"""Tiled inference gives the whole image's result, and comes back when memory runs out."""

import pytest
import torch
from torch import nn

from esr.errors import UserError
from esr.evaluation.tiling import Tiling, Upscaler, out_of_memory, starts, tiled


class Local(nn.Module):
    """Three 3x3 convolutions and a pixel shuffle: a pixel depends on those up to 3 away."""

    def __init__(self, scale: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 3 * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Limited(Local):
    """Fails as an allocator does for inputs above a number of pixels."""

    def __init__(self, limit: int, message: str):
        super().__init__(2)
        self.limit, self.message, self.sizes = limit, message, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] * x.shape[-2] > self.limit:
            raise RuntimeError(self.message)
        self.sizes.append(tuple(x.shape[-2:]))
        return super().forward(x)


CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("shape", [(37, 53), (16, 90), (64, 64), (9, 8)])
def test_equals_the_whole_image(scale: int, shape: tuple[int, int]):
    torch.manual_seed(0)
    net, image = Local(scale).double(), torch.rand(2, 3, *shape, dtype=torch.float64)
    with torch.no_grad():
        whole = net(image)
        cut = tiled(net, image, Tiling(16, overlap=6), scale)
    assert cut.shape == whole.shape
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-12)


def test_too_small_an_overlap_shows():
    """The equality above is the overlap's doing: with less of it the seams differ."""
    torch.manual_seed(0)
    net, image = Local(2), torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        difference = (tiled(net, image, Tiling(16, overlap=4), 2) - net(image)).abs()
    seam = 2 * 14  # tiles start at 0, 12, 24; the first two are cut at (16 + 12) / 2
    assert difference.max() > 1e-4
    assert difference[..., 10, 10].max() < 1e-6
    assert difference[..., seam - 2 : seam + 2, :].max() > 1e-4


def test_average_is_the_challenges_rule():
    """Against the rule written out: square tiles, outputs summed, divided by how often covered."""
    torch.manual_seed(0)
    net, image = Local(4), torch.rand(1, 3, 21, 30)
    size, overlap, scale = 16, 4, 4
    total, count = torch.zeros(1, 3, 84, 120), torch.zeros(1, 3, 84, 120)
    with torch.no_grad():
        for y in [*range(0, 21 - size, size - overlap), 21 - size]:
            for x in [*range(0, 30 - size, size - overlap), 30 - size]:
                area = (..., slice(4 * y, 4 * (y + size)), slice(4 * x, 4 * (x + size)))
                total[area] += net(image[..., y : y + size, x : x + size])
                count[area] += 1
        result = tiled(net, image, Tiling(size, overlap, "average"), scale)
    torch.testing.assert_close(result, total / count)


def test_starts_cover_the_side():
    assert starts(100, 100, 32) == [0]
    assert starts(300, 256, 32) == [0, 44]
    assert starts(500, 256, 32) == [0, 224, 244]


@pytest.mark.parametrize("message", [CPU_MESSAGE, "CUDA out of memory. Tried to allocate 2.00 GiB"])
def test_goes_on_in_tiles_when_memory_runs_out(message: str, caplog):
    torch.manual_seed(0)
    net, image = Limited(70 * 70, message), torch.rand(1, 3, 150, 200)
    upscaler = Upscaler(net, 2)
    result = upscaler(image)
    assert upscaler.tiling is not None
    assert upscaler.tiling.size == 64
    assert "tile=64" in caplog.text
    net.limit = 10**9
    torch.testing.assert_close(result, net(image))
    upscaler(image)
    assert net.sizes[-1] == (64, 64)  # what fitted is kept


def test_other_errors_are_passed_on():
    with pytest.raises(RuntimeError, match="sizes of tensors"):
        Upscaler(Limited(1, "The sizes of tensors must match"), 2)(torch.rand(1, 3, 64, 64))


def test_gives_up_where_even_small_tiles_fail():
    with pytest.raises(UserError, match="64x64 does not fit into the memory of cpu"):
        Upscaler(Limited(1, CPU_MESSAGE), 2)(torch.rand(1, 3, 64, 64))


def test_a_real_allocation_failure_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (16, 16), (16, -1)])
def test_senseless_tilings_are_refused(size: int, overlap: int):
    with pytest.raises(UserError, match="overlap"):
        Tiling(size, overlap)
