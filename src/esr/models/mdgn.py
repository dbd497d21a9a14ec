"""MDGN, team Strong Tiger (NTIRE 2022): three convolutions in a chain, gated per pixel."""

import torch
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.outlines import SeriesTrunk
from esr.models.parts.gates import PixelMask


class MDSA(nn.Module):
    """Three 3x3 convolutions in a chain, their outputs joined and masked by the input."""

    def __init__(self, width: Channels):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)) for _ in range(3)
        )
        self.fuse = nn.Sequential(nn.Conv2d(3 * width, width, 1), nn.PReLU(width))
        self.mask = PixelMask(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, outputs = x, []
        for conv in self.convs:
            y = conv(y)
            outputs.append(y)
        return self.fuse(torch.cat(outputs, dim=1)) * self.mask(x)


class MDGN(SeriesTrunk):
    """Gated blocks in series."""

    def __init__(
        self, scale: Scale = 4, data_range: DataRange = 1.0, width: Channels = 64, depth: Depth = 4
    ):
        super().__init__(scale, data_range, width, (MDSA(width) for _ in range(depth)))
