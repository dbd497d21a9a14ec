"""PlainRFDN (team NEESR's EFDN, NTIRE 2022): RFDN without the fusion of its blocks."""

from torch import nn

from esr.models.esa import BranchedContext, ContextGate
from esr.models.network import ConvFactory
from esr.models.rfdb import RFDB
from esr.models.trunks import SeriesTrunk


class PlainRFDN(SeriesTrunk):
    """RFDBs in series; an ESA that pools without a strided convolution.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        distilled: channels kept at each stage of a block.
        esa_width: channels inside the attention.
        conv: makes the 3x3 convolutions of the blocks.
    """

    min_size = BranchedContext.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 255.0,
        width: int = 42,
        depth: int = 4,
        distilled: int = 10,
        esa_width: int = 10,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (
            RFDB(
                width,
                distilled,
                ContextGate(width, esa_width, BranchedContext(esa_width)),
                residual=False,
                conv=conv,
            )
            for _ in range(depth)
        )
        super().__init__(scale, data_range, width, blocks)
