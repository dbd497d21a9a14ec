"""SAFMN: spatially-adaptive feature modulation (Sun et al., ICCV 2023), 240 K parameters at x4.

A block modulates the features by themselves as seen at four resolutions, then mixes the channels.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.network import Network
from esr.models.parts.layers import ChannelNorm, pixel_shuffle_tail


class Modulation(nn.Module):
    """A quarter of the channels at each of four resolutions; their mixture multiplies the input.

    Args:
        width: channels, a multiple of `levels`.
        levels: resolutions, each half the one before.
    """

    def __init__(self, width: int, levels: int = 4):
        super().__init__()
        part = width // levels
        self.depthwise = nn.ModuleList(
            nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(levels)
        )
        self.mix = nn.Conv2d(width, width, 1)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        size = x.shape[-2:]
        parts = []
        for level, (conv, part) in enumerate(
            zip(self.depthwise, x.chunk(len(self.depthwise), dim=1), strict=True)
        ):
            if level:
                pooled = F.adaptive_max_pool2d(part, (size[0] >> level, size[1] >> level))
                parts.append(F.interpolate(conv(pooled), size=size, mode="nearest"))
            else:
                parts.append(conv(part))
        return self.act(self.mix(torch.cat(parts, dim=1))) * x


class Block(nn.Module):
    """Modulation and a convolutional channel mixer, each on normalised features and with a skip.

    Args:
        width: channels.
        expansion: channels between the mixer's two convolutions, as a factor.
    """

    def __init__(self, width: int, expansion: float):
        super().__init__()
        hidden = int(width * expansion)
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(2))
        self.modulation = Modulation(width)
        self.mixer = nn.Sequential(
            nn.Conv2d(width, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        x = self.modulation(self.norms[0](x)) + x
        return self.mixer(self.norms[1](x)) + x


class SAFMN(Network):
    """Modulation blocks in series with a long skip.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, a multiple of 4.
        depth: blocks.
        expansion: see `Block`.
    """

    min_size = 8

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 36,
        depth: int = 8,
        expansion: float = 2.0,
    ):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width, expansion) for _ in range(depth))
        self.tail = pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        head = self.head(x)
        y = head
        for block in self.blocks:
            y = block(y)
        return self.tail(y + head)
