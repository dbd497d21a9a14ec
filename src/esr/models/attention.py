"""Attention from 3x3 convolutions at full resolution: HFAB of FMEN and the halves' gate of AFDN."""

import torch
import torch.nn.functional as F
from torch import nn


class HalvesGate(nn.Module):
    """Gate each half of the channels by two 3x3 convolutions of itself (AFDN's ATB, NTIRE 2022)."""

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.inner = nn.ModuleList(nn.Conv2d(half, half, 3, padding=1) for _ in range(2))
        self.outer = nn.ModuleList(nn.Conv2d(half, half, 3, padding=1) for _ in range(2))
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape; `width` is even."""
        gated = [
            half * torch.sigmoid(outer(self.act(inner(half))))
            for half, inner, outer in zip(x.chunk(2, dim=1), self.inner, self.outer, strict=True)
        ]
        return torch.cat(gated, dim=1)


class HFAB(nn.Module):
    """High-frequency attention block: a mask from a narrow stack of 3x3 convolutions.

    FMEN, Du et al., CVPR 2022 workshops. Its activations are functional here as they are there:
    the challenge's counter, which hooks modules, does not see them.

    Args:
        width: channels of the input and the output.
        mid: channels of the stack.
        stack: module from (N, mid, H, W) to the same shape.
    """

    def __init__(self, width: int, mid: int, stack: nn.Module):
        super().__init__()
        self.squeeze = nn.Conv2d(width, mid, 3, padding=1)
        self.stack = stack
        self.excite = nn.Conv2d(mid, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        mask = F.leaky_relu(self.squeeze(x), 0.1, inplace=True)
        mask = F.leaky_relu(self.stack(mask), 0.1, inplace=True)
        return x * torch.sigmoid(self.excite(mask))
