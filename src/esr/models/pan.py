"""PAN, SCET and PRRN: self-calibrated blocks, in which half of the channels gate themselves."""

import torch
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Even, Heads, Scale
from esr.models.outlines import Blocks
from esr.models.parts.gates import AverageAttention, PixelAttention, attended_step
from esr.models.parts.layers import pixel_shuffle_tail, resize, steps
from esr.models.parts.transformers import RestormerBlock


def conv3(channels: int, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution that keeps size and channels."""
    return nn.Conv2d(channels, channels, 3, padding=1, bias=bias)


class SCPA(nn.Module):
    """PAN's self-calibrated block with pixel attention."""

    def __init__(self, width: Even):
        super().__init__()
        half = width // 2
        self.split = nn.ModuleList(nn.Conv2d(width, half, 1, bias=False) for _ in range(2))
        self.plain = conv3(half, bias=False)
        self.gate = nn.Conv2d(half, half, 1)
        self.gated = conv3(half, bias=False)
        self.refine = conv3(half, bias=False)
        self.fuse = nn.Conv2d(width, width, 1, bias=False)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain, gated = (self.act(conv(x)) for conv in self.split)
        plain = self.act(self.plain(plain))
        gated = self.act(self.refine(self.gated(gated) * self.gate(gated).sigmoid()))
        return self.fuse(torch.cat((plain, gated), dim=1)) + x


class PAN(Blocks):
    """Pixel attention network (Zhao et al., ECCV 2020 workshops), 272 K parameters at x4.

    Self-calibrated blocks; nearest-neighbour enlargement in steps, each followed by attention; the
    bilinear enlargement of the input is added at the end.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Even = 40,
        up_width: Channels = 24,  # after the first enlargement
        depth: Depth = 16,
    ):
        super().__init__(scale, data_range, width, (SCPA(width) for _ in range(depth)))
        self.trunk = conv3(width)
        self.enlarge = nn.Sequential()
        for step in steps(scale):
            self.enlarge.append(attended_step(step, width, up_width, up_width))
            width = up_width
        self.tail = nn.Conv2d(up_width, 3, 3, padding=1)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        y = self.enlarge(self.trunk(self.features(head)) + head)
        return self.tail(y) + resize(x, self.scale, "bilinear")


class SCET(Blocks):
    """Self-calibrated efficient transformer (Zou et al., CVPR 2022 workshops; team Giantpandacv).

    PAN's blocks and one transformer, then two paths with an upsampler each, summed. The learnable
    weights of that sum, which the paper names, were never registered by the official code and are
    absent here.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Even = 64,
        depth: Depth = 16,
        heads: Heads = 8,
    ):
        super().__init__(scale, data_range, width, (SCPA(width) for _ in range(depth)))
        colours = width // scale**2
        # The upsamplers use so many of the channels: 64 at x2 and x4; 63 at x3, which has no 64.
        self.used = colours * scale**2
        self.transformer = RestormerBlock(width, heads)
        self.trunk = nn.Conv2d(width, self.used, 3, padding=1)
        self.tail = nn.Sequential(nn.PixelShuffle(scale), nn.Conv2d(colours, 3, 3, padding=1))
        self.skip = nn.Sequential(nn.PixelShuffle(scale), nn.Conv2d(colours, 3, 3, padding=1))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        deep = self.trunk(self.transformer(self.features(x)))
        return self.tail(deep) + self.skip(x[:, : self.used])


class Gate(nn.Module):
    """A convolution of the features, multiplied by a mask from pixel and channel attention."""

    def __init__(self, channels: Channels):
        super().__init__()
        self.pixel = PixelAttention(channels)
        self.channel = AverageAttention(channels)
        self.mask = nn.Conv2d(channels, channels, 1)
        self.conv = conv3(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask(self.pixel(x) + self.channel(x)).sigmoid() * self.conv(x)


class PRRB(nn.Module):
    """One half of the channels gates itself, one passes a convolution; both joined, with a skip."""

    def __init__(self, width: Even):
        super().__init__()
        half = width // 2
        self.split = nn.ModuleList(nn.Conv2d(width, half, 1, bias=False) for _ in range(2))
        self.gate = Gate(half)
        self.gated = conv3(half)
        self.refine = conv3(half)
        self.plain = conv3(half)
        self.fuse = nn.Conv2d(width, width, 1, bias=False)
        self.attention = AverageAttention(width)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated, plain = (self.act(conv(x)) for conv in self.split)
        # The gate is a sigmoid of a product with a sigmoid: two in a row, as published.
        gated = self.act(self.refine(self.gate(gated).sigmoid() * self.gated(gated)))
        y = self.act(self.fuse(torch.cat((gated, self.act(self.plain(plain))), dim=1)))
        return self.attention(y) + x


class PRRN(Blocks):
    """Team GDUT_SR (NTIRE 2022): a 1x1 convolution joins each block's output with the head's."""

    def __init__(
        self, scale: Scale = 4, data_range: DataRange = 1.0, width: Even = 40, depth: Depth = 16
    ):
        super().__init__(scale, data_range, width, (PRRB(width) for _ in range(depth)))
        self.join = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(depth))
        self.trunk = conv3(width)
        self.tail = pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = head = self.head(x)
        for block, join in zip(self.blocks, self.join, strict=True):
            x = join(torch.cat((head, block(x)), dim=1))
        return self.tail(self.trunk(x) + head)
