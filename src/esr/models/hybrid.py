"""Hybrids of convolution and window attention, both of NTIRE 2022: HNCT and MobileSR."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Expansion, Heads, Scale
from esr.models.outlines import Blocks, FusionTrunk
from esr.models.parts.gates import ESA, SpatialMask
from esr.models.parts.layers import ShuffleSteps, resize
from esr.models.parts.transformers import SwinBlock, WindowAttention, missing, mlp


class HybridBlock(nn.Module):
    """A spatial mask, two Swin layers, plain and shifted, a 3x3 convolution and an ESA."""

    def __init__(self, width: Channels, heads: Heads, esa_width: Channels, window: int = 8):
        super().__init__()
        self.window = window
        self.mask = SpatialMask()
        self.norm = nn.LayerNorm(width)  # of the stream itself; the layers have none of their own
        self.transformer = nn.Sequential(
            SwinBlock(width, heads, window, norm=False),
            SwinBlock(width, heads, window, shift=window // 2, norm=False),
        )
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.attention = ESA(width, esa_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        y = self.mask(x) * x
        padding = (0, missing(width, self.window), 0, missing(height, self.window))
        y = F.pad(y, padding, mode="reflect").permute(0, 2, 3, 1)
        y = self.transformer(self.norm(y)).permute(0, 3, 1, 2)
        return self.attention(self.conv(y[..., :height, :width]))


class HNCT(FusionTrunk):
    """Hybrid blocks, their outputs fused (Fang et al., CVPR 2022 workshops; team mju_mnu)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 50,
        depth: Depth = 4,
        heads: Heads = 5,
        esa_width: Channels = 12,  # inside the ESA
    ):
        blocks = (HybridBlock(width, heads, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)


class Transformer(nn.Module):
    """A depthwise position embedding, attention within windows and an MLP, each with a skip.

    The image is padded with zeros *after* the norm, and the padded pixels are attended to: without
    a bias their queries, keys and values are zero, so they take part with a logit of zero.
    """

    def __init__(self, channels: Channels, heads: Heads, expansion: Expansion, window: int = 8):
        super().__init__()
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(
            channels, heads, window, qkv_bias=False, position_bias=False
        )
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = mlp(channels, expansion * channels)

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


class MobileSR(Blocks):
    """Transformers and inverted residuals in turn, bilinear skip of the image (NJUST_ESR)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 40,
        heads: Heads = 8,
        expansions: Sequence[Expansion] = (4, 2, 2, 2, 4),  # one a pair, of both its blocks
    ):
        blocks = (
            nn.Sequential(Transformer(width, heads, r), InvertedResidual(width, r))
            for r in expansions
        )
        super().__init__(scale, data_range, width, blocks)
        self.fuse = nn.Conv2d(2 * width, width, 3, padding=1)
        self.up = ShuffleSteps(width, scale, kernel_size=1)
        self.tail = nn.Sequential(
            nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(width, 3, 3, padding=1)
        )

    def body(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        y = self.fuse(torch.cat((head, self.features(head)), dim=1))
        return self.tail(self.up(y)) + resize(x, self.scale, "bilinear")
