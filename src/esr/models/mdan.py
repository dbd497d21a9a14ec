"""MDAN, team ncepu_explorers (NTIRE 2022): multi-dilation branches under weight normalisation.

The attention takes a softmax over all pixels, so the output depends on how an image is cut.
"""

from collections.abc import Sequence

import torch
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.network import Network
from esr.models.parts.layers import MeanShift, normed_conv, resize


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
        pixels = logits.flatten(2).softmax(dim=-1).view_as(x)
        return self.scale * self.project(value * logits.softmax(dim=1) + value * pixels)


class MDAN(Network):
    """Blocks in series; the attention of each one's output is fused, with a bicubic image skip."""

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
