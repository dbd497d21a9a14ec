"""RLFN: residual local feature network, winner of NTIRE 2022 Efficient SR (team ByteESR).

Kong et al., CVPR 2022 workshops. The challenge's network is a pruned one: 4 blocks, 46 channels
between the blocks and 48 inside; the paper's RLFN has 6 blocks of 52, RLFN-S 6 of 48.
"""

import torch
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, PerBlock, Scale
from esr.models.outlines import SeriesTrunk
from esr.models.parts.gates import ESA
from esr.models.parts.layers import leaky_relu, per_block


class RLFB(nn.Module):
    """Three 3x3 convolutions, `mid` channels in between, a skip, a 1x1 convolution, a light ESA."""

    def __init__(
        self, width: Channels, mid: Channels, esa_width: Channels, conv: ConvFactory = nn.Conv2d
    ):
        super().__init__()
        shapes = ((width, mid), (mid, mid), (mid, width))
        self.convs = nn.ModuleList(conv(n_in, n_out, 3, padding=1) for n_in, n_out in shapes)
        self.fuse = nn.Conv2d(width, width, 1)
        self.attention = ESA(width, esa_width, depth=1)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for conv in self.convs:
            y = self.act(conv(y))
        return self.attention(self.fuse(y + x))


class RLFN(SeriesTrunk):
    """Residual local feature blocks in series."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 46,
        mid: PerBlock = 48,  # inside the blocks
        depth: Depth = 4,
        esa_width: Channels = 16,  # inside the attention
        conv: ConvFactory = nn.Conv2d,  # of the blocks' 3x3 convolutions
    ):
        blocks = (RLFB(width, m, esa_width, conv) for m in per_block(mid, depth, "mid"))
        super().__init__(scale, data_range, width, blocks)
