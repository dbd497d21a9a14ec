"""AALN, team Drinktea (NTIRE 2022): dense attention blocks on the image less its mean colour."""

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.network import Network
from esr.models.parts.layers import MeanShift, resize


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
    """Blocks in series, their outputs fused, and a bicubic skip of the image."""

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
        y = head = self.head(image)
        outputs = []
        for block in self.blocks:
            y = block(y)
            outputs.append(y)
        y = self.tail(self.fuse(torch.cat(outputs, dim=1)) + head)
        # The bicubic skip is of the shifted image, so the mean is added exactly once.
        return self.add_mean(y) + resize(image, self.scale, "bicubic")
