"""The transformer block of Restormer (Zamir et al., CVPR 2022): attention between channels.

The attention matrix is channels x channels, so its cost grows linearly with the number of pixels
and the block takes images of any size.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.norms import ChannelNorm


class ChannelAttention(nn.Module):
    """MDTA, multi-DConv head transposed attention: softmax(q k^T) over the channels of a head.

    Args:
        channels: width, a multiple of `heads`.
        heads: number of groups of channels that attend within themselves.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Sequential(
            nn.Conv2d(channels, 3 * channels, 1, bias=False),
            nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False),
        )
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        heads = len(self.temperature)
        q, k, v = (t.unflatten(1, (heads, -1)).flatten(3) for t in self.qkv(x).chunk(3, dim=1))
        # Written out: with every pixel a feature, the fused attention kernels have no fast path.
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        return self.project((logits.softmax(dim=-1) @ v).view_as(x))


class GatedFeedForward(nn.Module):
    """GDFN, gated-DConv feed-forward network: one half of the hidden channels gates the other.

    Args:
        channels: width.
        hidden: channels of each half.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(channels, 2 * hidden, 1, bias=False),
            nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False),
        )
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        gate, value = self.expand(x).chunk(2, dim=1)
        return self.project(F.gelu(gate) * value)


class RestormerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)).

    Args:
        channels: width, a multiple of `heads`.
        heads: attention heads.
        expansion: hidden channels of the feed-forward network per channel.
    """

    def __init__(self, channels: int, heads: int = 8, expansion: float = 2.66):
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = ChannelAttention(channels, heads)
        self.norm2 = ChannelNorm(channels)
        self.feed_forward = GatedFeedForward(channels, int(channels * expansion))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))
