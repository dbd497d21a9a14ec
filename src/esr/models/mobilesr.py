"""MobileSR, NJUST_ESR's hybrid of window attention and depthwise residual blocks (NTIRE 2022)."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import nn

from esr.models.arguments import Channels, DataRange, Heads, Scale
from esr.models.network import Network
from esr.models.parts.layers import ShuffleSteps, resize
from esr.models.parts.transformers import WindowAttention, missing

Expansion = Annotated[int, Ge(1), "hidden channels per channel"]


class Transformer(nn.Module):
    """A depthwise position embedding, attention within windows and an MLP, each with a skip.

    The image is padded with zeros *after* the norm, and the padded pixels are attended to: without
    a bias their queries, keys and values are zero, so they take part with a logit of zero.
    """

    def __init__(self, channels: Channels, heads: Heads, expansion: Expansion, window: int = 8):
        super().__init__()
        hidden = expansion * channels
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(
            channels, heads, window, qkv_bias=False, position_bias=False
        )
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x + self.position(x)).permute(0, 2, 3, 1)
        height, width = x.shape[1:3]
        right, bottom = (missing(side, self.attention.size) for side in (width, height))
        padded = F.pad(self.norm1(x), (0, 0, 0, right, 0, bottom))
        x = x + self.attention(padded)[:, :height, :width]
        return (x + self.mlp(self.norm2(x))).permute(0, 3, 1, 2)


class InvertedResidual(nn.Module):
    """x + conv 1x1 (depthwise 3x3 (conv 1x1 (x))), wider inside; no normalisation."""

    def __init__(self, channels: Channels, expansion: Expansion):
        super().__init__()
        hidden = expansion * channels
        self.convs = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.convs(x)


class MobileSR(Network):
    """Pairs of a transformer and an inverted residual, upsampling in steps, a bilinear skip."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 40,
        heads: Heads = 8,
        expansions: Sequence[Expansion] = (4, 2, 2, 2, 4),  # one a pair, of both its blocks
    ):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(Transformer(width, heads, r), InvertedResidual(width, r))
                for r in expansions
            )
        )
        self.fuse = nn.Conv2d(2 * width, width, 3, padding=1)
        self.up = ShuffleSteps(width, scale, kernel_size=1)
        self.tail = nn.Sequential(
            nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(width, 3, 3, padding=1)
        )

    def body(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        features = self.fuse(torch.cat((head, self.blocks(head)), dim=1))
        return self.tail(self.up(features)) + resize(x, self.scale, "bilinear")
