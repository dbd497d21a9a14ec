"""The network of Alpan Team (NTIRE 2022): an attention after every convolution."""

import torch
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.gates import ESA
from esr.models.parts.layers import leaky_relu


class AttendedBlock(nn.Module):
    """Residual 3x3 convolutions, each followed by an ESA; all of them fused and attended again."""

    def __init__(self, width: Channels, depth: Depth, esa_width: Channels):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.gates = nn.ModuleList(ESA(width, esa_width) for _ in range(depth))
        self.fuse = nn.Conv2d((depth + 1) * width, width, 1)
        self.attention = ESA(width, esa_width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [x]
        for conv, gate in zip(self.convs, self.gates, strict=True):
            x = gate(self.act(conv(x) + x))
            outputs.append(x)
        return self.attention(self.fuse(torch.cat(outputs, dim=1)))


class Alpan(FusionTrunk):
    """Attended blocks, their outputs fused."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 32,
        depth: Depth = 4,
        convs: Depth = 3,  # in a block
        esa_width: Channels = 16,  # inside each attention
    ):
        blocks = (AttendedBlock(width, convs, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
