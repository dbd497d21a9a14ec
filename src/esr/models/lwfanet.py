"""LWFANet, team Just Try (NTIRE 2022): branches of one to four convolutions, three gates."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.network import Network
from esr.models.parts.gates import ChannelMask, PixelMask
from esr.models.parts.layers import steps


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


class LWFANet(Network):
    """Blocks in series, the long skip, then nearest-neighbour upsampling in steps."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 96,  # of the blocks, a multiple of 16
        depth: Depth = 10,
        up_width: Channels = 64,  # while upsampling
    ):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(LWFA(width) for _ in range(depth)))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.reduce = nn.Conv2d(width, up_width, 1)
        self.up = nn.ModuleList(conv_act(up_width, up_width, 3) for _ in steps(scale))
        self.tail = nn.Sequential(
            conv_act(up_width, up_width, 3), nn.Conv2d(up_width, 3, 3, padding=1)
        )

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        x = self.reduce(self.trunk(self.blocks(x)) + x)
        for conv, step in zip(self.up, steps(self.scale), strict=True):
            x = conv(F.interpolate(x, scale_factor=step, mode="nearest"))
        return self.tail(x)
