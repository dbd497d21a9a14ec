"""AALN, team Drinktea (NTIRE 2022): dense attention blocks on the image less its mean colour."""

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from esr.models.network import Network
from esr.models.parts.layers import MeanShift, resize


class ContrastAttention(nn.Module):
    """Channel attention from averages and standard deviations, a branch each.

    Args:
        channels: channels of the input and the output.
        hidden: channels of each branch.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.mean = nn.Conv2d(channels, hidden, 1)
        self.std = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> the same shape."""
        mean = self.act(self.mean(adaptive_avg_pool2d(x, 1)))
        std = self.act(self.std(x.std(dim=(2, 3), correction=0, keepdim=True)))
        return x * self.expand(mean + std).sigmoid()


class DenseAttention(nn.Module):
    """Two 3x3 convolutions, both outputs gated and joined, with a skip (DSAB).

    Args:
        width: channels of the input and the output.
        hidden: channels inside the attention.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.PReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.PReLU())
        self.attention = ContrastAttention(2 * width, hidden)
        self.fuse = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        y = self.conv1(x)
        return self.fuse(self.attention(torch.cat((y, self.conv2(y)), dim=1))) + x


class AALB(nn.Module):
    """Two dense attention units, joined and gated by depthwise convolutions, with a skip.

    Args:
        width: channels of the input and the output.
        hidden: channels inside the units' attention.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.unit1 = DenseAttention(width, hidden)
        self.unit2 = DenseAttention(width, hidden)
        self.fuse = nn.Conv2d(2 * width, width, 1)
        self.gate = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        y = self.unit1(x)
        y = self.fuse(torch.cat((y, self.unit2(y)), dim=1))
        return y * self.gate(y).sigmoid() + x


class AALN(Network):
    """Blocks in series, their outputs fused, and a bicubic skip of the image.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        hidden: channels inside the contrast attention.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 54,
        depth: int = 4,
        hidden: int = 9,
    ):
        super().__init__(scale, data_range)
        self.subtract_mean = MeanShift(-data_range)
        self.head = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.PReLU(),
        )
        self.blocks = nn.ModuleList(AALB(width, hidden) for _ in range(depth))
        self.fuse = nn.Conv2d(depth * width, width, 1)
        self.tail = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(width, 3 * scale**2, 1),
            nn.PixelShuffle(scale),
        )
        self.add_mean = MeanShift(data_range)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        image = self.subtract_mean(x)
        y = head = self.head(image)
        outputs = []
        for block in self.blocks:
            y = block(y)
            outputs.append(y)
        y = self.tail(self.fuse(torch.cat(outputs, dim=1)) + head)
        # The bicubic skip is of the shifted image, so the mean is added exactly once.
        return self.add_mean(y) + resize(image, self.scale, "bicubic")
