"""HNCT, Fang et al., CVPR 2022 workshops (team mju_mnu): convolution and window attention.

Each block masks its input per pixel, runs two Swin layers, a convolution and an ESA. The Swin
layers have no norms of their own; one LayerNorm before them normalises the stream itself.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Heads, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.gates import ESA, SpatialMask
from esr.models.parts.transformers import SwinBlock, missing


class HybridBlock(nn.Module):
    """A spatial mask, window attention plain and shifted, a 3x3 convolution and an ESA."""

    def __init__(self, width: Channels, heads: Heads, esa_width: Channels, window: int = 8):
        super().__init__()
        self.window = window
        self.mask = SpatialMask()
        self.norm = nn.LayerNorm(width)
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
    """Hybrid blocks, their outputs fused."""

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
