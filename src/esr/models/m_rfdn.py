"""m_RFDN, team Multicog (NTIRE 2022): RFDN of multiceptions, with BatchNorm at inference."""

import torch
from torch import nn

from esr.models.esa import ESA
from esr.models.gates import PixelAttention
from esr.models.rfdb import RFDB
from esr.models.trunks import FusionTrunk
from esr.models.upsampling import steps


class Multiception(nn.Module):
    """Depthwise convolutions of several sizes side by side, then a 1x1; BatchNorm after both.

    Depthwise multiception convolution, Bao et al. 2020, with the arguments of `nn.Conv2d`.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel_size: 1 for depthwise 1x1 convolutions alone, 3 for 1x1, 3x3 and 5x5.
        padding: as for a convolution that keeps the size; the sizes are padded accordingly.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int = 0):
        super().__init__()
        sizes = range(1, kernel_size + 3, 2) if kernel_size > 1 else (1,)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(inputs, inputs, size, padding=size // 2, groups=inputs) for size in sizes
        )
        self.norm1 = nn.BatchNorm2d(len(sizes) * inputs)
        self.pointwise = nn.Conv2d(len(sizes) * inputs, outputs, 1)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y = torch.cat([conv(x) for conv in self.depthwise], dim=1)
        return self.norm2(self.pointwise(self.norm1(y)))


class MultiRFDB(RFDB):
    """An `RFDB` of multiceptions; the fusion is an ordinary convolution."""

    def __init__(self, width: int, kept: int, esa_width: int):
        attention = ESA(width, esa_width)
        super().__init__(width, kept, attention, conv=Multiception, pointwise=Multiception)
        self.fuse = nn.Conv2d(4 * kept, width, 1)


def attended_tail(width: int, inner: int, scale: int) -> nn.Sequential:
    """Nearest-neighbour upsampling in steps, each with a convolution, pixel attention, another.

    PAN's upsampler. (N, width, H, W) -> (N, 3, scale*H, scale*W); `inner` channels after step one.
    """
    layers: list[nn.Module] = []
    for step in steps(scale):
        layers += [
            nn.Upsample(scale_factor=step, mode="nearest"),
            nn.Conv2d(width, width, 3, padding=1),
            PixelAttention(width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, inner, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width = inner
    return nn.Sequential(*layers, nn.Conv2d(inner, 3, 3, padding=1))


class MRFDN(FusionTrunk):
    """Distillation blocks of multiceptions, their outputs fused, with PAN's upsampler.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        kept: channels kept at each stage of a block.
        esa_width: channels inside the attention.
        tail_width: channels while upsampling.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 52,
        depth: int = 4,
        kept: int = 26,
        esa_width: int = 13,
        tail_width: int = 24,
    ):
        blocks = (MultiRFDB(width, kept, esa_width) for _ in range(depth))
        tail = attended_tail(width, tail_width, scale)
        super().__init__(scale, data_range, width, blocks, tail=tail)
