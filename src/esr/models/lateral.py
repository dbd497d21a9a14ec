"""Entries of NTIRE 2022 that join the outputs of a chain one after the other, two at a time."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Even, Scale
from esr.models.network import Network
from esr.models.outlines import SeriesTrunk
from esr.models.parts.distillation import RFDB
from esr.models.parts.gates import ESA, ChannelMask, ContextGate, PooledContext, SpatialMask
from esr.models.parts.layers import (
    MeanShift,
    in_turn,
    leaky_relu,
    normed_conv,
    pixel_shuffle_tail,
    resize,
)


def preactivated(inputs: int, outputs: int, kernel_size: int = 1) -> nn.Sequential:
    """PReLU with a slope per channel, then a convolution."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(nn.PReLU(inputs), conv)


class ResDB(nn.Module):
    """Three stages; each keeps slices for all later ones and refines `width` channels."""

    def __init__(self, width: Channels, slice_width: Channels, esa_width: Channels):
        super().__init__()
        self.slice_width = slice_width
        # Stage k sees k slices and makes one for each stage after it and for the end: 3 - k.
        self.expand = nn.ModuleList(
            preactivated(width + k * slice_width, width + (3 - k) * slice_width) for k in range(3)
        )
        self.refine = nn.ModuleList(preactivated(width, width, 3) for _ in range(3))
        self.fuse = preactivated(width + 3 * slice_width, width)
        self.attention = ESA(width, esa_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        kept: Sequence[list[torch.Tensor]] = ([], [], [])  # for stages 1 and 2, and for the end
        for k, (expand, refine) in enumerate(zip(self.expand, self.refine, strict=True)):
            seen = torch.cat((y, *kept[k - 1]), dim=1) if k else y
            wide, *slices = expand(seen).split([y.shape[1], *[self.slice_width] * (3 - k)], dim=1)
            for target, piece in zip(kept[k:], slices, strict=True):
                target.append(piece)
            y = y + refine(wide)
        return self.attention(self.fuse(torch.cat((y, *kept[2]), dim=1))) + x


class ResDN(Network):
    """Residual dense distillation, outputs joined top-down, half and half (team cipher)."""

    min_size = ESA.min_size

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Even = 48,
        depth: Depth = 4,
        slice_width: Channels = 16,  # of one slice kept by a block's stage
        esa_width: Channels = 12,  # inside the attention
    ):
        super().__init__(scale, data_range)
        self.subtract_mean = MeanShift(-data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResDB(width, slice_width, esa_width) for _ in range(depth))

        def half() -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(width, width // 2, 1), nn.ReLU(inplace=True))

        self.top = nn.ModuleList(half() for _ in range(depth - 1))
        self.lateral = nn.ModuleList(half() for _ in range(depth - 1))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.tail = pixel_shuffle_tail(width, scale)
        self.add_mean = MeanShift(data_range)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(self.subtract_mean(x))
        y, *rest = reversed(in_turn(self.blocks, head))
        for top, lateral, earlier in zip(self.top, self.lateral, rest, strict=True):
            y = torch.cat((top(y), lateral(earlier)), dim=1)
        return self.add_mean(self.tail(self.trunk(y + head)))


class WeightedResidual(nn.Module):
    """`body_scale * transform(x) + skip_scale * x` with two learned numbers."""

    def __init__(self):
        super().__init__()
        self.body_scale = nn.Parameter(torch.ones(1))
        self.skip_scale = nn.Parameter(torch.ones(1))

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body_scale * self.transform(x) + self.skip_scale * x


class DilatedContext(nn.Module):
    """A strided convolution, 7x7 max pooling and two convolutions side by side, one dilated."""

    min_size = PooledContext.min_size  # it pools alike

    def __init__(self, width: Channels):
        super().__init__()
        self.down = nn.Conv2d(width, width, 3, stride=2)
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.far = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.down(x), kernel_size=7, stride=3)
        return self.act(self.near(x)) + self.act(self.far(x))


class AAWRU(WeightedResidual):
    """Two weight-normed convolutions and an ESA with a hard sigmoid."""

    def __init__(self, width: Channels, esa_width: Channels):
        super().__init__()
        self.convs = nn.Sequential(
            normed_conv(width, width, 3, padding=1),
            nn.LeakyReLU(inplace=True),  # torch's slope of 0.01; elsewhere it is 0.05
            normed_conv(width, width, 3, padding=1),
        )
        self.attention = ContextGate(
            width, esa_width, DilatedContext(esa_width), skip=False, gate=F.hardsigmoid
        )

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(self.convs(x))


class LRFFB(WeightedResidual):
    """Four units in series, joined from the last to the first by one convolution used thrice."""

    def __init__(self, width: Channels, esa_width: Channels):
        super().__init__()
        self.units = nn.ModuleList(AAWRU(width, esa_width) for _ in range(4))
        self.shuffle = nn.ChannelShuffle(2)
        self.join = normed_conv(2 * width, width, 1)

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        outputs = []
        for n, unit in enumerate(self.units):
            x = unit(x) + x if n in (1, 2) else unit(x)  # the first and the last have no skip
            outputs.append(x)
        for earlier in outputs[-2::-1]:
            x = self.join(self.shuffle(torch.cat((x, earlier), dim=1)))
        return x


class RFESR(SeriesTrunk):
    """Residual feature fusion blocks in series (team imglhl)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Even = 32,
        depth: Depth = 4,
        esa_width: Channels = 8,  # inside the attention
    ):
        super().__init__(scale, data_range, width, (LRFFB(width, esa_width) for _ in range(depth)))


class AsymmetricConv(nn.Module):
    """The sum of a 1x3, a 3x1 and a 3x3 convolution (ACNet, Ding et al., ICCV 2019), unmerged."""

    def __init__(self, inputs: Channels, outputs: Channels, bias: bool = False):
        super().__init__()
        self.row = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1), bias=bias)
        self.column = nn.Conv2d(inputs, outputs, (3, 1), padding=(1, 0), bias=bias)
        self.square = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.row(x) + self.column(x) + self.square(x)


class ResidualContext(nn.Module):
    """`PooledContext` under weight normalisation, with SiLU and a skip around every convolution."""

    def __init__(self, width: Channels):
        super().__init__()
        self.down = normed_conv(width, width, 3, stride=2)
        self.convs = nn.ModuleList(normed_conv(width, width, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.down(x), kernel_size=7, stride=3)
        for conv in self.convs[:-1]:
            x = F.silu(conv(x)) + x
        return self.convs[-1](x) + x


class RLCSR(Network):
    """Distillation blocks whose outputs are fused twice, all at once and one after the other.

    Team IMGWLH. The official file holds six modules that the network never uses; the published
    counts include them.
    """

    min_size = PooledContext.min_size

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Even = 32,
        depth: Depth = 6,
        kept: Channels = 16,  # at each stage of a block
        esa_width: Channels = 8,  # inside the blocks' attention
        mask_width: Channels = 10,  # inside the channel mask
    ):
        super().__init__(scale, data_range)

        def block() -> RFDB:
            context = ResidualContext(esa_width)
            gate = ContextGate(width, esa_width, context, pointwise=normed_conv)
            # The team's function calls it "silu", but what the weights were trained with is SELU.
            return RFDB(width, kept, gate, act=nn.SELU, conv=normed_conv, pointwise=normed_conv)

        self.head = AsymmetricConv(3, width)
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.fuse = nn.Conv2d(depth * width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.fused = AsymmetricConv(width, width)
        self.shuffle = nn.ChannelShuffle(2)
        self.join = nn.ModuleList(normed_conv(2 * width, width, 1) for _ in range(depth - 1))
        self.channel = ChannelMask(2 * width, mask_width)
        self.spatial = SpatialMask(bias=False)
        self.trunk = AsymmetricConv(2 * width, width)
        self.tail = nn.Sequential(
            AsymmetricConv(width, 3 * scale**2, bias=True), nn.PixelShuffle(scale)
        )
        self.act = nn.SELU()

    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = self.blocks[0](self.head(x))
        lateral, outputs = y, [y]
        for block, join in zip(self.blocks[1:], self.join, strict=True):
            y = block(y) + y
            lateral = join(self.shuffle(torch.cat((lateral, y), dim=1)))
            outputs.append(y)
        # Layer attention over a single layer is the identity, which leaves a factor 1 + gamma.
        fused = self.act(self.fuse(torch.cat(outputs, dim=1))) * (1 + self.gamma)
        y = torch.cat((self.fused(fused), lateral), dim=1)
        y = y * self.channel(y) * self.spatial(y)  # both masks from the same features, unlike CBAM
        return self.tail(self.trunk(y)) + resize(x, self.scale, "bicubic")
