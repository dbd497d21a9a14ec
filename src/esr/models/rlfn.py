"""RLFN: residual local feature network, winner of NTIRE 2022 Efficient SR (team ByteESR).

Kong et al., CVPR 2022 workshops. The challenge's network is a pruned one: 4 blocks, 46 channels
between the blocks and 48 inside; the paper's RLFN has 6 blocks of 52, RLFN-S 6 of 48.
"""

from collections.abc import Sequence

import torch
from torch import nn

from esr.models.esa import ESA
from esr.models.layers import leaky_relu, per_block
from esr.models.network import ConvFactory
from esr.models.trunks import SeriesTrunk


class RLFB(nn.Module):
    """Three 3x3 convolutions with activations, a skip, a 1x1 convolution and a light ESA.

    Args:
        width: channels of the input and the output.
        mid: channels between the three convolutions.
        esa_width: channels inside the attention.
        conv: makes the 3x3 convolutions.
    """

    def __init__(self, width: int, mid: int, esa_width: int = 16, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                conv(width, mid, 3, padding=1),
                conv(mid, mid, 3, padding=1),
                conv(mid, width, 3, padding=1),
            ]
        )
        self.fuse = nn.Conv2d(width, width, 1)
        self.attention = ESA(width, esa_width, depth=1)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        y = x
        for conv in self.convs:
            y = self.act(conv(y))
        return self.attention(self.fuse(y + x))


class RLFN(SeriesTrunk):
    """Residual local feature blocks in series.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels between the blocks.
        mid: channels inside the blocks, one number or one a block.
        depth: blocks.
        esa_width: channels inside the attention.
        conv: makes the 3x3 convolutions of the blocks.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 46,
        mid: int | Sequence[int] = 48,
        depth: int = 4,
        esa_width: int = 16,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (RLFB(width, m, esa_width, conv) for m in per_block(mid, depth, "mid"))
        super().__init__(scale, data_range, width, blocks)
