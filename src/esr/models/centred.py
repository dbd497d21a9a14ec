"""AALN and MDAN (NTIRE 2022): attention on the image less its mean colour, a bicubic skip of it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.network import Network
from esr.models.parts.layers import MeanShift, in_turn, normed_conv, resize


def conv_prelu(inputs: Channels, outputs: Channels, groups: int = 1) -> nn.Sequential:
    """A 3x3 convolution and a PReLU with one slope."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups), nn.PReLU())


class ContrastAttention(nn.Module):
    """Channel attention from averages and standard deviations, a branch each."""

    def __init__(self, channels: Channels, hidden: Channels):
        super().__init__()
        self.mean = nn.Conv2d(channels, hidden, 1)
        self.std = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.act(self.mean(adaptive_avg_pool2d(x, 1)))
        std = self.act(self.std(x.std(dim=(2, 3), correction=0, keepdim=True)))
        return x * self.expand(mean + std).sigmoid()


class DenseAttention(nn.Module):
    """Two 3x3 convolutions, both outputs gated and joined, with a skip (DSAB)."""

    def __init__(self, width: Channels, hidden: Channels):
        super().__init__()
        self.conv1 = conv_prelu(width, width)
        self.conv2 = conv_prelu(width, width)
        self.attention = ContrastAttention(2 * width, hidden)
        self.fuse = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        return self.fuse(self.attention(torch.cat((y, self.conv2(y)), dim=1))) + x


class AALB(nn.Module):
    """Two dense attention units, joined and gated by depthwise convolutions, with a skip."""

    def __init__(self, width: Channels, hidden: Channels):
        super().__init__()
        self.unit1 = DenseAttention(width, hidden)
        self.unit2 = DenseAttention(width, hidden)
        self.fuse = nn.Conv2d(2 * width, width, 1)
        self.gate = nn.Sequential(
            *conv_prelu(width, width, groups=width),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.unit1(x)
        y = self.fuse(torch.cat((y, self.unit2(y)), dim=1))
        return y * self.gate(y).sigmoid() + x


class AALN(Network):
    """Dense attention blocks in series, their outputs fused (team Drinktea)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 54,
        depth: Depth = 4,
        hidden: Channels = 9,  # inside the contrast attention
    ):
        super().__init__(scale, data_range)
        self.subtract_mean = MeanShift(-data_range)
        self.head = nn.Sequential(*conv_prelu(3, width), *conv_prelu(width, width))
        self.blocks = nn.ModuleList(AALB(width, hidden) for _ in range(depth))
        self.fuse = nn.Conv2d(depth * width, width, 1)
        self.tail = nn.Sequential(
            *conv_prelu(width, width), nn.Conv2d(width, 3 * scale**2, 1), nn.PixelShuffle(scale)
        )
        self.add_mean = MeanShift(data_range)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        image = self.subtract_mean(x)
        head = self.head(image)
        y = self.tail(self.fuse(torch.cat(in_turn(self.blocks, head), dim=1)) + head)
        # The bicubic skip is of the shifted image, so the mean is added exactly once.
        return self.add_mean(y) + resize(image, self.scale, "bicubic")


class SeparableConv(nn.Sequential):
    """A 1x1 convolution in three groups, a depthwise 3x3 one and a 1x1 one, nothing between."""

    def __init__(self, inputs: Channels, outputs: Channels, dilation: int = 1):
        super().__init__(
            normed_conv(inputs, inputs, 1, groups=3),
            normed_conv(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs),
            normed_conv(inputs, outputs, 1),
        )


class DilatedResidual(nn.Module):
    """Three rounds of two branches, one dilated, then a 1x1 convolution and a skip (MIRB)."""

    def __init__(self, width: Channels, dilation: int):
        super().__init__()
        half = width // 2
        self.near = nn.ModuleList(SeparableConv(width, half) for _ in range(3))
        self.far = nn.ModuleList(SeparableConv(width, half, dilation) for _ in range(3))
        self.fuse = normed_conv(width, width, 1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for near, far in zip(self.near, self.far, strict=True):
            y = torch.cat((self.act(near(y)), self.act(far(y))), dim=1)
        return self.fuse(y) + x


class MDAB(nn.Module):
    """Attention by two softmaxes, over the channels of a pixel and over the pixels of a channel."""

    def __init__(self, width: Channels):
        super().__init__()
        self.point = normed_conv(width, width // 2, 1)
        self.separable = SeparableConv(width, width // 2)
        self.value = normed_conv(width, width, 1)
        self.logits = SeparableConv(width, width)
        self.project = normed_conv(width, width, 1)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat((self.point(x), self.separable(x)), dim=1)
        value, logits = self.value(x), self.logits(x)
        # Over all pixels, so the output depends on how an image is cut.
        pixels = logits.flatten(2).softmax(dim=-1).view_as(x)
        return self.scale * self.project(value * logits.softmax(dim=1) + value * pixels)


class MDAN(Network):
    """Multi-dilation blocks under weight normalisation, attentions fused (ncepu_explorers)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 48,  # a multiple of 6
        depth: Depth = 3,
        dilations: Sequence[int] = (1, 1, 2, 2, 3, 3),  # of a block's residual units
        # Of the mean colour taken off the image. The team passed 3, the number of colours, where
        # 255 was meant, and the weights live with it.
        mean_range: float = 3.0,
    ):
        super().__init__(scale, data_range)
        self.subtract_mean = MeanShift(-mean_range)
        self.head = normed_conv(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(DilatedResidual(width, d) for d in dilations)) for _ in range(depth)
        )
        self.attention = nn.ModuleList(MDAB(width) for _ in range(depth))
        self.fuse = normed_conv(depth * width, width, 1)
        self.tail = nn.Sequential(
            normed_conv(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )
        self.add_mean = MeanShift(mean_range)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        image = self.subtract_mean(x)
        y = head = self.act(self.head(image))
        outputs = []
        for block, attention in zip(self.blocks, self.attention, strict=True):
            y = block(y) + y
            outputs.append(attention(y))
        y = self.tail(self.fuse(torch.cat(outputs, dim=1)) + head)
        return self.add_mean(y + resize(image, self.scale, "bicubic"))
