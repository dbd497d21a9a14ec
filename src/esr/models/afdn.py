"""AFDN (team NJUST_RESTORARION, NTIRE 2022): RFDN without biases, its ESA replaced by a gate."""

from functools import partial

from torch import nn

from esr.models.attention import HalvesGate
from esr.models.layers import pixel_shuffle_tail
from esr.models.rfdb import RFDB
from esr.models.trunks import FusionTrunk


class AFDN(FusionTrunk):
    """RFDBs with a gate at full resolution; biases only in the gate and in the fusion.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, even.
        depth: blocks.
        distilled: channels kept at each stage of a block.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 255.0,
        width: int = 46,
        depth: int = 4,
        distilled: int = 23,
    ):
        conv = partial(nn.Conv2d, bias=False)
        blocks = (
            RFDB(width, distilled, HalvesGate(width), conv=conv, pointwise=conv)
            for _ in range(depth)
        )
        tail = pixel_shuffle_tail(width, scale, bias=False)
        super().__init__(scale, data_range, width, blocks, conv=conv, tail=tail)
