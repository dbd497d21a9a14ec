"""Entries of NTIRE 2022 that gate what short chains of convolutions make."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Even, Scale
from esr.models.outlines import Blocks, FusionTrunk, SeriesTrunk
from esr.models.parts.gates import ESA, ChannelMask, PixelMask
from esr.models.parts.layers import in_turn, leaky_relu, pixel_shuffle_tail, steps


class AttendedBlock(nn.Module):
    """Residual 3x3 convolutions, each followed by an ESA; all of them fused and attended again."""

    def __init__(self, width: Channels, depth: Depth, esa_width: Channels):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.gates = nn.ModuleList(ESA(width, esa_width) for _ in range(depth))
        self.fuse = nn.Conv2d((depth + 1) * width, width, 1)
        self.attention = ESA(width, esa_width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [x]
        for conv, gate in zip(self.convs, self.gates, strict=True):
            x = gate(self.act(conv(x) + x))
            outputs.append(x)
        return self.attention(self.fuse(torch.cat(outputs, dim=1)))


class Alpan(FusionTrunk):
    """Attended blocks, their outputs fused (Alpan Team)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 32,
        depth: Depth = 4,
        convs: Depth = 3,  # in a block
        esa_width: Channels = 16,  # inside each attention
    ):
        blocks = (AttendedBlock(width, convs, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)


class EFDNCell(nn.Module):
    """A 1x1 and two 3x3 convolutions in a chain, half of each distilled; fusion, ESA, skip."""

    def __init__(self, width: Channels, esa_width: Channels, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        convs = [nn.Conv2d(width, width, 1), *(conv(width, width, 3, padding=1) for _ in "23")]
        self.convs = nn.ModuleList(convs)
        self.acts = nn.ModuleList(nn.PReLU(width) for _ in convs)
        self.distill = nn.ModuleList(nn.Conv2d(width, width // 2, 1) for _ in range(4))
        self.fuse = nn.Conv2d(4 * (width // 2), width, 1)
        self.attention = ESA(width, esa_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [x]
        for conv, act in zip(self.convs, self.acts, strict=True):
            outputs.append(act(conv(outputs[-1])))
        kept = [distill(y) for distill, y in zip(self.distill, outputs, strict=True)]
        return self.attention(self.fuse(torch.cat(kept, dim=1))) + x


class EFDN(Blocks):
    """Four cells; the second's output is joined with each of the others' (team NKU-ESR).

    Edge-enhanced feature distillation network, Wang, CVPR 2022 workshops. The cells' convolutions
    are merged edge-enhanced blocks. Its output is clamped, and the last pair joined is cells 2 and
    4, not 3 and 4.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Even = 48,
        esa_width: Channels = 12,  # inside the attention
        conv: ConvFactory = nn.Conv2d,  # of the cells' 3x3 convolutions
    ):
        blocks = (EFDNCell(width, esa_width, conv) for _ in range(4))
        super().__init__(scale, data_range, width, blocks)
        self.joins = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(3))
        self.tail = pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        first = self.blocks[0](head)
        second = self.blocks[1](first)
        joined = self.joins[0](torch.cat([first, second], dim=1))
        for block, join in zip(self.blocks[2:], self.joins[1:], strict=True):
            joined = join(torch.cat([second, block(joined)], dim=1))
        return self.tail(joined + head).clamp(0, self.data_range)


class ESABlock(nn.Module):
    """Two 3x3 convolutions, ESA, a skip. The ReLU is functional: the challenge counts none."""

    def __init__(self, width: Channels, esa_width: Channels, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, 3, padding=1)
        self.attention = ESA(width, esa_width, skip=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(self.second(F.relu(self.first(x), inplace=True))) + x


class ESAN(Blocks):
    """Residual blocks; a convolution and a pixel shuffle of the image is added (team Dragon)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 255.0,
        width: Channels = 32,
        depth: Depth = 16,
        esa_width: Channels = 8,  # inside the attention
        conv: ConvFactory = nn.Conv2d,  # of the blocks' 3x3 convolutions
    ):
        blocks = (ESABlock(width, esa_width, conv) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
        self.tail = pixel_shuffle_tail(width, scale)
        self.skip = pixel_shuffle_tail(3, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.features(self.head(x))) + self.skip(x)


def conv_act(inputs: Channels, outputs: Channels, kernel_size: int) -> nn.Sequential:
    """A convolution that keeps the size, and LeakyReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(conv, nn.LeakyReLU(0.2, inplace=True))


class LWFA(nn.Module):
    """Four branches of growing depth; gates on their concatenation and on the input are summed."""

    def __init__(self, width: Channels):  # a multiple of 16
        super().__init__()
        narrow = width // 4
        self.branches = nn.ModuleList(
            nn.Sequential(
                conv_act(width, narrow, 1), *(conv_act(narrow, narrow, 3) for _ in range(depth))
            )
            for depth in range(1, 5)
        )
        self.channel = ChannelMask(width, width // 16)
        self.pixel = PixelMask(width)
        self.input_pixel = PixelMask(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([branch(x) for branch in self.branches], dim=1)
        return self.channel(y) * y + self.pixel(y) * y + self.input_pixel(x) * x


class LWFANet(Blocks):
    """Blocks, the long skip, then nearest-neighbour upsampling in steps (team Just Try)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 96,  # of the blocks, a multiple of 16
        depth: Depth = 10,
        up_width: Channels = 64,  # while upsampling
    ):
        super().__init__(scale, data_range, width, (LWFA(width) for _ in range(depth)))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.reduce = nn.Conv2d(width, up_width, 1)
        self.up = nn.ModuleList(conv_act(up_width, up_width, 3) for _ in steps(scale))
        self.tail = nn.Sequential(
            conv_act(up_width, up_width, 3), nn.Conv2d(up_width, 3, 3, padding=1)
        )

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        x = self.reduce(self.trunk(self.features(x)) + x)
        for conv, step in zip(self.up, steps(self.scale), strict=True):
            x = conv(F.interpolate(x, scale_factor=step, mode="nearest"))
        return self.tail(x)


class MDSA(nn.Module):
    """Three 3x3 convolutions in a chain, their outputs joined and masked by the input."""

    def __init__(self, width: Channels):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)) for _ in range(3)
        )
        self.fuse = nn.Sequential(nn.Conv2d(3 * width, width, 1), nn.PReLU(width))
        self.mask = PixelMask(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fuse(torch.cat(in_turn(self.convs, x), dim=1)) * self.mask(x)


class MDGN(SeriesTrunk):
    """Gated blocks in series (team Strong Tiger)."""

    def __init__(
        self, scale: Scale = 4, data_range: DataRange = 1.0, width: Channels = 64, depth: Depth = 4
    ):
        super().__init__(scale, data_range, width, (MDSA(width) for _ in range(depth)))
