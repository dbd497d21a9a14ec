"""Entries of NTIRE 2022 that keep RFDN's block but make its convolutions of something else."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Even, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.distillation import RFDB
from esr.models.parts.gates import ESA, ContextGate, attended_step
from esr.models.parts.layers import silu, steps


def large_kernel_context(width: Channels, stride: int) -> nn.Sequential:
    """Max pooling by `stride`, then a kernel of 23x23 made of a 7x7 (dilated), a 5x5 and a 1x1.

    VAN's kernel (Guo et al., 2022). The input has at least 2 * stride + 1 pixels a side.
    """
    return nn.Sequential(
        nn.MaxPool2d(2 * stride + 1, stride),
        nn.GELU(),
        nn.Conv2d(width, width, 7, padding=9, dilation=3, groups=width),
        nn.Conv2d(width, width, 5, padding=2, groups=width),
        nn.Conv2d(width, width, 1),
    )


class MSDN(FusionTrunk):
    """RFDBs of two stages whose attentions pool less and less (VMCL_Taobao).

    The first stage of each widens, the last is dilated, neither has the inner identity.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 255.0,
        width: Even = 56,
        distilled: Channels = 28,  # kept at each stage
        strides: Sequence[int] = (4, 3, 2),  # pooling of each block's attention
        attention_width: Channels = 7,
    ):
        def block(stride: int) -> RFDB:
            context = large_kernel_context(attention_width, stride)
            attention = ContextGate(width, attention_width, context, skip=False)
            made = RFDB(width, distilled, attention, (1, 1), residual=False, act=silu)
            made.refine[0] = nn.Sequential(
                nn.Conv2d(width, 2 * width, 1),
                silu(),
                nn.Conv2d(2 * width, width, 3, padding=1, groups=2),
            )
            made.last = nn.Conv2d(width, distilled, 3, padding=2, dilation=2)
            return made

        super().__init__(scale, data_range, width, (block(s) for s in strides), act=silu)
        self.min_size = 2 * max(strides) + 1


class Multiception(nn.Module):
    """Depthwise convolutions of several sizes side by side, then a 1x1; BatchNorm after both.

    Depthwise multiception convolution, Bao et al. 2020, with the arguments of `nn.Conv2d`.
    """

    def __init__(self, inputs: Channels, outputs: Channels, kernel_size: int, padding: int = 0):
        super().__init__()
        # 1 for depthwise 1x1 convolutions alone, 3 for 1x1, 3x3 and 5x5; all keep the size.
        sizes = range(1, kernel_size + 3, 2) if kernel_size > 1 else (1,)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(inputs, inputs, size, padding=size // 2, groups=inputs) for size in sizes
        )
        self.norm1 = nn.BatchNorm2d(len(sizes) * inputs)
        self.pointwise = nn.Conv2d(len(sizes) * inputs, outputs, 1)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([conv(x) for conv in self.depthwise], dim=1)
        return self.norm2(self.pointwise(self.norm1(y)))


class MRFDN(FusionTrunk):
    """RFDN of multiceptions, BatchNorm at inference and PAN's upsampler (Multicog's m_RFDN)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 52,
        depth: Depth = 4,
        kept: Channels = 26,  # at each stage
        esa_width: Channels = 13,  # inside the attention
        tail_width: Channels = 24,  # while upsampling
    ):
        def block() -> RFDB:
            attention = ESA(width, esa_width)
            made = RFDB(width, kept, attention, conv=Multiception, pointwise=Multiception)
            made.fuse = nn.Conv2d(4 * kept, width, 1)  # an ordinary convolution
            return made

        blocks = (block() for _ in range(depth))
        layers: list[nn.Module] = []
        inner = width
        for step in steps(scale):
            layers += attended_step(step, inner, inner, tail_width)
            inner = tail_width
        tail = nn.Sequential(*layers, nn.Conv2d(tail_width, 3, 3, padding=1))
        super().__init__(scale, data_range, width, blocks, tail=tail)


class DepthwiseResidual(nn.Module):
    """Add a depthwise 3x3 convolution to its input, then a 1x1 convolution."""

    def __init__(self, inputs: Channels, outputs: Channels):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(x + self.depthwise(x))


class DepthwisePair(nn.Sequential):
    """Two `DepthwiseResidual`s with ReLU between, with the arguments of `nn.Conv2d`.

    Raises:
        ValueError: the kernel is not 3x3 with padding 1, the only one there is.
    """

    def __init__(self, inputs: Channels, outputs: Channels, kernel_size: int = 3, padding: int = 1):
        if (kernel_size, padding) != (3, 1):
            raise ValueError(f"kernel 3 with padding 1 only, got {kernel_size} with {padding}")
        super().__init__(
            DepthwiseResidual(inputs, outputs),
            nn.ReLU(inplace=True),
            DepthwiseResidual(outputs, outputs),
        )


class UnshuffledContext(nn.Module):
    """Pixel unshuffle by 2 in place of a strided convolution, 7x7 max pooling, one convolution."""

    min_size = 14

    def __init__(self, width: Channels):
        super().__init__()
        # A 1x1 convolution *with padding*: the map grows by a border of act(bias), as published.
        self.conv = nn.Conv2d(4 * width, width, 1, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = (side // 2 * 2 for side in x.shape[2:])  # the last odd row is dropped
        x = F.pixel_unshuffle(x[..., :height, :width], 2)
        return self.act(self.conv(self.act(F.max_pool2d(x, kernel_size=7, stride=3))))


class RFDNMSRB(FusionTrunk):
    """RFDN with depthwise stages and an unshuffled attention (Set5baby)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 50,
        depth: Depth = 4,
        kept: Channels = 25,  # at each stage
        attention_width: Channels = 12,
    ):
        def block() -> RFDB:
            attention = ContextGate(width, attention_width, UnshuffledContext(attention_width))
            made = RFDB(width, kept, attention, conv=DepthwisePair)
            made.last = nn.Conv2d(width, kept, 3, padding=1)  # an ordinary convolution
            return made

        super().__init__(scale, data_range, width, (block() for _ in range(depth)))
