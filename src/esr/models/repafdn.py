"""RePAFDN (team Super, NTIRE 2022): RFDN with two-stage blocks, and pixel attention at the end."""

from collections.abc import Sequence

from torch import nn

from esr.models.esa import ESA
from esr.models.gates import PixelAttention
from esr.models.network import ConvFactory
from esr.models.rfdb import RFDB
from esr.models.trunks import FusionTrunk


class RePAFDN(FusionTrunk):
    """RFDBs of different depth, fused, then pixel attention before the long skip.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        stages: 3x3 stages of each block.
        distilled: channels kept at each stage, for each block.
        esa_width: channels inside the attention.
        conv: makes the 3x3 convolutions of the blocks.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 48,
        stages: Sequence[int] = (2, 2, 2, 3),
        distilled: Sequence[int] = (24, 24, 24, 12),
        esa_width: int = 12,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (
            RFDB(width, kept, ESA(width, esa_width), [1] * count, residual=False, conv=conv)
            for count, kept in zip(stages, distilled, strict=True)
        )
        super().__init__(scale, data_range, width, blocks)
        self.trunk = nn.Sequential(self.trunk, PixelAttention(width))
