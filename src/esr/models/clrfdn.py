"""CLRFDN (team VAP, NTIRE 2022): a narrow RFDN of collapsible linear blocks, fastest of the table.

Collapsible linear blocks are those of SESR (Bhardwaj et al., MLSys 2022); merged, they are 3x3
convolutions.
"""

from functools import partial

from torch import nn

from esr.models.esa import ESA
from esr.models.network import ConvFactory
from esr.models.rfdb import RFDB
from esr.models.trunks import FusionTrunk


class CLRFDN(FusionTrunk):
    """RFDBs with SiLU, fused, without a 3x3 convolution before the long skip.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        distilled: channels kept at each stage of a block.
        esa_width: channels inside the attention.
        conv: makes the 3x3 convolutions of the head and the blocks.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 255.0,
        width: int = 32,
        depth: int = 4,
        distilled: int = 16,
        esa_width: int = 8,
        conv: ConvFactory = nn.Conv2d,
    ):
        silu = partial(nn.SiLU, inplace=True)
        blocks = [
            RFDB(width, distilled, ESA(width, esa_width), residual=False, act=silu, conv=conv)
            for _ in range(depth)
        ]
        for block in blocks:  # the released network activates this one twice
            block.last = nn.Sequential(block.last, silu())
        super().__init__(scale, data_range, width, blocks, act=nn.PReLU, conv=conv)
        self.trunk = nn.Identity()
