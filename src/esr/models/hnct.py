"""HNCT, Fang et al., CVPR 2022 workshops (team mju_mnu): convolution and window attention.

Each block masks its input per pixel, runs two Swin layers, a convolution and an ESA. The Swin
layers have no norms of their own; one LayerNorm before them normalises the stream itself.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.outlines import FusionTrunk
from esr.models.parts.gates import ESA, SpatialMask
from esr.models.parts.transformers import SwinBlock, missing


class HybridBlock(nn.Module):
    """A spatial mask, window attention plain and shifted, a 3x3 convolution and an ESA.

    Args:
        width: channels of the input and the output, a multiple of `heads`.
        heads: attention heads.
        esa_width: channels inside the ESA.
        window: side of a window in pixels.
    """

    def __init__(self, width: int, heads: int, esa_width: int, window: int = 8):
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
        """(N, width, H, W) -> the same shape."""
        height, width = x.shape[2:]
        y = self.mask(x) * x
        padding = (0, missing(width, self.window), 0, missing(height, self.window))
        y = F.pad(y, padding, mode="reflect").permute(0, 2, 3, 1)
        y = self.transformer(self.norm(y)).permute(0, 3, 1, 2)
        return self.attention(self.conv(y[..., :height, :width]))


class HNCT(FusionTrunk):
    """Hybrid blocks, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, a multiple of `heads`.
        depth: blocks.
        heads: attention heads.
        esa_width: channels inside the ESA.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 50,
        depth: int = 4,
        heads: int = 5,
        esa_width: int = 12,
    ):
        blocks = (HybridBlock(width, heads, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
