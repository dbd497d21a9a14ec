"""MobileSR, NJUST_ESR's hybrid of window attention and depthwise residual blocks (NTIRE 2022)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.network import Network
from esr.models.parts.layers import ShuffleSteps, resize
from esr.models.parts.transformers import WindowAttention, missing


class Transformer(nn.Module):
    """A depthwise position embedding, attention within windows and an MLP, each with a skip.

    The image is padded with zeros *after* the norm, and the padded pixels are attended to: without
    a bias their queries, keys and values are zero, so they take part with a logit of zero.

    Args:
        channels: width.
        heads: attention heads.
        expansion: hidden channels of the MLP per channel.
        window: side of a window in pixels.
    """

    def __init__(self, channels: int, heads: int, expansion: int, window: int = 8):
        super().__init__()
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(
            channels, heads, window, qkv_bias=False, position_bias=False
        )
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, expansion * channels),
            nn.GELU(),
            nn.Linear(expansion * channels, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        x = (x + self.position(x)).permute(0, 2, 3, 1)
        height, width = x.shape[1:3]
        right, bottom = (missing(side, self.attention.size) for side in (width, height))
        padded = F.pad(self.norm1(x), (0, 0, 0, right, 0, bottom))
        x = x + self.attention(padded)[:, :height, :width]
        return (x + self.mlp(self.norm2(x))).permute(0, 3, 1, 2)


class InvertedResidual(nn.Module):
    """x + conv 1x1 (depthwise 3x3 (conv 1x1 (x))), wider inside; no normalisation."""

    def __init__(self, channels: int, expansion: int):
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
        """(N, C, H, W) -> the same shape."""
        return x + self.convs(x)


class MobileSR(Network):
    """Pairs of a transformer and an inverted residual, upsampling in steps, a bilinear skip.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, a multiple of `heads`.
        heads: attention heads.
        expansions: one pair of blocks each; hidden channels per channel of both blocks.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 40,
        heads: int = 8,
        expansions: Sequence[int] = (4, 2, 2, 2, 4),
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
        """See `Network.body`."""
        head = self.head(x)
        features = self.fuse(torch.cat((head, self.blocks(head)), dim=1))
        return self.tail(self.up(features)) + resize(x, self.scale, "bilinear")
