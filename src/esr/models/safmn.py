"""SAFMN: spatially-adaptive feature modulation (Sun et al., ICCV 2023), 240 K parameters at x4.

A block modulates the features by themselves as seen at four resolutions, then mixes the channels.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.outlines import Blocks
from esr.models.parts.layers import ChannelNorm, pixel_shuffle_tail


class Modulation(nn.Module):
    """Multiply by a mixture of equal parts, each at half the resolution of the one before."""

    def __init__(self, width: Channels, levels: int = 4):  # which divides `width`
        super().__init__()
        part = width // levels
        self.depthwise = nn.ModuleList(
            nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(levels)
        )
        self.mix = nn.Conv2d(width, width, 1)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        first, *others = x.chunk(len(self.depthwise), dim=1)
        parts = [self.depthwise[0](first)]
        for level, part in enumerate(others, start=1):
            pooled = F.adaptive_max_pool2d(part, (height >> level, width >> level))
            y = self.depthwise[level](pooled)
            parts.append(F.interpolate(y, size=(height, width), mode="nearest"))
        return self.act(self.mix(torch.cat(parts, dim=1))) * x


class Block(nn.Module):
    """Modulation and a convolutional channel mixer, each on normalised features and with a skip."""

    def __init__(self, width: Channels, expansion: float):
        super().__init__()
        hidden = int(width * expansion)
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(2))
        self.modulation = Modulation(width)
        self.mixer = nn.Sequential(
            nn.Conv2d(width, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.modulation(self.norms[0](x)) + x
        return self.mixer(self.norms[1](x)) + x


class SAFMN(Blocks):
    """Modulation blocks in series with a long skip."""

    min_size = 8

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 36,  # a multiple of 4
        depth: Depth = 8,
        expansion: Annotated[float, Gt(0), "hidden channels of a mixer per channel"] = 2.0,
    ):
        super().__init__(scale, data_range, width, (Block(width, expansion) for _ in range(depth)))
        self.tail = pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        return self.tail(self.features(head) + head)
