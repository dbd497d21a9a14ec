"""MDGN, team Strong Tiger (NTIRE 2022): three convolutions in a chain, gated per pixel."""

import torch
from torch import nn

from esr.models.outlines import SeriesTrunk
from esr.models.parts.gates import PixelMask


class MDSA(nn.Module):
    """Three 3x3 convolutions in a chain, their outputs joined and masked by the input.

    Args:
        width: channels of the input and the output.
    """

    def __init__(self, width: int):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)) for _ in range(3)
        )
        self.fuse = nn.Sequential(nn.Conv2d(3 * width, width, 1), nn.PReLU(width))
        self.mask = PixelMask(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        y, outputs = x, []
        for conv in self.convs:
            y = conv(y)
            outputs.append(y)
        return self.fuse(torch.cat(outputs, dim=1)) * self.mask(x)


class MDGN(SeriesTrunk):
    """Gated blocks in series.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
    """

    def __init__(self, scale: int = 4, data_range: float = 1.0, width: int = 64, depth: int = 4):
        super().__init__(scale, data_range, width, (MDSA(width) for _ in range(depth)))
