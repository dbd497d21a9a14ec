"""PRRN, team GDUT_SR (NTIRE 2022): self-calibrated blocks, each joined with the head's features."""

import torch
from torch import nn

from esr.models.gates import AverageAttention, PixelAttention
from esr.models.layers import pixel_shuffle_tail
from esr.models.network import Network


class Gate(nn.Module):
    """A convolution of the features, multiplied by a mask from pixel and channel attention.

    Args:
        channels: channels of the input and the output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.pixel = PixelAttention(channels)
        self.channel = AverageAttention(channels)
        self.mask = nn.Conv2d(channels, channels, 1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> the same shape."""
        return self.mask(self.pixel(x) + self.channel(x)).sigmoid() * self.conv(x)


class PRRB(nn.Module):
    """Half of the channels gates itself, half passes one convolution; both joined, with a skip.

    Args:
        width: channels of the input and the output, even.
    """

    def __init__(self, width: int):
        super().__init__()
        half = width // 2

        def conv3() -> nn.Conv2d:
            return nn.Conv2d(half, half, 3, padding=1)

        self.split = nn.ModuleList(nn.Conv2d(width, half, 1, bias=False) for _ in range(2))
        self.gate = Gate(half)
        self.gated = conv3()
        self.refine = conv3()
        self.plain = conv3()
        self.fuse = nn.Conv2d(width, width, 1, bias=False)
        self.attention = AverageAttention(width)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        gated, plain = (self.act(conv(x)) for conv in self.split)
        # The gate is a sigmoid of a product with a sigmoid: two in a row, as published.
        gated = self.act(self.refine(self.gate(gated).sigmoid() * self.gated(gated)))
        y = self.act(self.fuse(torch.cat((gated, self.act(self.plain(plain))), dim=1)))
        return self.attention(y) + x


class PRRN(Network):
    """After every block a 1x1 convolution joins its output with the head's features.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, even.
        depth: blocks.
    """

    def __init__(self, scale: int = 4, data_range: float = 1.0, width: int = 40, depth: int = 16):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(PRRB(width) for _ in range(depth))
        self.join = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(depth))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.tail = pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        x = head = self.head(x)
        for block, join in zip(self.blocks, self.join, strict=True):
            x = join(torch.cat((head, block(x)), dim=1))
        return self.tail(self.trunk(x) + head)
