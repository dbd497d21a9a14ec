"""Attention within windows (Swin) and between channels (Restormer), on images of any size.

Swin (Liu et al., ICCV 2021) attends on (N, H, W, C) within windows of `size` x `size` pixels; a
shifted layer moves the windows by half their side and masks pairs that only meet because the image
was rolled round. Masks and position indices follow from the sizes and are computed, so official
files that carry them as buffers need none. Inputs of the linear layers keep the layouts of
the official implementations, (windows, pixels, C) in the attention and (N, H*W, C) in the MLP,
since the challenge's counter reads a linear layer's cost off the second dimension.

Restormer's block (Zamir et al., CVPR 2022) attends between channels on (N, C, H, W): the matrix is
channels x channels, so its cost grows linearly with the number of pixels.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, Heads
from esr.models.parts.layers import ChannelNorm


def partition(x: torch.Tensor, size: int) -> torch.Tensor:
    """Cut (N, H, W, C), H and W multiples of `size`, into (N * windows, size * size, C)."""
    n, height, width, channels = x.shape
    x = x.view(n, height // size, size, width // size, size, channels)
    return x.transpose(2, 3).reshape(-1, size * size, channels)


def merge(windows: torch.Tensor, size: int, height: int, width: int) -> torch.Tensor:
    """Undo `partition`: (N * windows, size * size, C) to (N, height, width, C)."""
    x = windows.view(-1, height // size, width // size, size, size, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def missing(length: int, size: int) -> int:
    """Pixels to append so that `length` becomes a multiple of `size`."""
    return -length % size


def relative_position(size: int) -> torch.Tensor:
    """Row of the bias table for each pair of pixels of a window: int64 (size**2, size**2)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    dy, dx = (t.flatten()[:, None] - t.flatten()[None, :] + size - 1 for t in (y, x))
    return dy * (2 * size - 1) + dx


@lru_cache(maxsize=8)
def shift_mask(height: int, width: int, size: int, shift: int) -> torch.Tensor:
    """What to add to the logits of windows shifted by `shift`: float (windows, size**2, size**2).

    0 between pixels that are neighbours in the image, -100 between those that meet only because
    the shift rolled one edge to the other.
    """

    def region(length: int) -> torch.Tensor:
        position = torch.arange(length)
        return (position >= length - size).int() + (position >= length - shift).int()

    # A mask first made at inference is kept for training, too.
    with torch.inference_mode(False):
        regions = 3 * region(height)[:, None] + region(width)[None, :]
        labels = partition(regions[None, :, :, None], size).squeeze(-1)
        return torch.where(labels[:, :, None] == labels[:, None, :], 0.0, -100.0)


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows of an image (N, H, W, C)."""

    def __init__(
        self,
        channels: Channels,  # a multiple of `heads`
        heads: Heads,
        size: int,  # side of a window in pixels; H and W are multiples
        shift: int = 0,  # how far the windows are moved up and left before cutting
        qkv_bias: bool = True,
        position_bias: bool = True,  # a learned summand of the logits per relative position
    ):
        super().__init__()
        self.heads, self.size, self.shift = heads, size, shift
        self.position: torch.Tensor
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        if position_bias:
            self.bias_table = nn.Parameter(torch.zeros((2 * size - 1) ** 2, heads))
            nn.init.trunc_normal_(self.bias_table, std=0.02)
            self.register_buffer("position", relative_position(size), persistent=False)
        else:
            self.bias_table = None

    def _bias(self, x: torch.Tensor) -> torch.Tensor | None:
        """The summand of the logits, broadcastable to (windows, heads, size**2, size**2)."""
        table = self.bias_table
        bias = None if table is None else table[self.position].permute(2, 0, 1)[None]
        if self.shift:
            mask = shift_mask(x.shape[1], x.shape[2], self.size, self.shift)
            mask = mask.to(x.device, x.dtype)[:, None].repeat(len(x), 1, 1, 1)
            bias = mask if bias is None else bias + mask
        return bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, height, width, _ = x.shape
        bias = self._bias(x)
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = partition(x, self.size)
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = merge(self.proj(out.transpose(1, 2).flatten(2)), self.size, height, width)
        return x.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else x


def mlp(channels: Channels, hidden: Channels) -> nn.Sequential:
    """Two linear layers over the last axis, GELU between them."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


class SwinBlock(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x)), on (N, H, W, C); HNCT has no norms."""

    def __init__(
        self, channels: Channels, heads: Heads, size: int, shift: int = 0, norm: bool = True
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels) if norm else nn.Identity()
        self.attention = WindowAttention(channels, heads, size, shift)
        self.norm2 = nn.LayerNorm(channels) if norm else nn.Identity()
        self.mlp = mlp(channels, 2 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x).flatten(1, 2)).view_as(x)


def separable(n_in: Channels, n_out: Channels) -> nn.Sequential:
    """A 1x1 and a depthwise 3x3 convolution without biases."""
    pointwise = nn.Conv2d(n_in, n_out, 1, bias=False)
    depthwise = nn.Conv2d(n_out, n_out, 3, padding=1, groups=n_out, bias=False)
    return nn.Sequential(pointwise, depthwise)


class ChannelAttention(nn.Module):
    """MDTA, multi-DConv head transposed attention: softmax(q k^T) over the channels of a head."""

    def __init__(self, channels: Channels, heads: Heads):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = separable(channels, 3 * channels)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = len(self.temperature)
        q, k, v = (t.unflatten(1, (heads, -1)).flatten(3) for t in self.qkv(x).chunk(3, dim=1))
        # Written out: with every pixel a feature, the fused attention kernels have no fast path.
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        return self.project((logits.softmax(dim=-1) @ v).view_as(x))


class GatedFeedForward(nn.Module):
    """GDFN, gated-DConv feed-forward network: one half of the hidden channels gates the other."""

    def __init__(self, channels: Channels, hidden: Channels):  # of each half
        super().__init__()
        self.expand = separable(channels, 2 * hidden)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, value = self.expand(x).chunk(2, dim=1)
        return self.project(F.gelu(gate) * value)


class RestormerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), which is `expansion` times wider."""

    def __init__(self, channels: Channels, heads: Heads = 8, expansion: float = 2.66):
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = ChannelAttention(channels, heads)
        self.norm2 = ChannelNorm(channels)
        self.feed_forward = GatedFeedForward(channels, int(channels * expansion))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))
