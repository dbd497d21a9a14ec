"""RFDN: residual feature distillation network, the baseline of NTIRE 2022 and 2023.

Liu et al., ECCV 2020 workshops. The defaults are the winner of AIM 2020 Efficient SR (4 blocks,
50 channels), which is what everybody compares with; the paper's own network has 6 blocks.
"""

from collections.abc import Sequence

from torch import nn

from esr.models.esa import ESA
from esr.models.layers import per_block
from esr.models.network import ConvFactory
from esr.models.rfdb import RFDB
from esr.models.trunks import FusionTrunk


class RFDN(FusionTrunk):
    """Residual feature distillation blocks, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        distilled: channels kept at each stage of a block, one number or one a block.
        esa_width: channels inside the attention.
        esa_skip: the 1x1 convolution on the attention's skip.
        dilations: see `RFDB`.
        residual: see `RFDB`; False once the identity has been merged into the kernels.
        conv: makes the 3x3 convolutions of the blocks.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 50,
        depth: int = 4,
        distilled: int | Sequence[int] = 25,
        esa_width: int = 12,
        esa_skip: bool = True,
        dilations: Sequence[int] = (1, 1, 1),
        residual: bool = True,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (
            RFDB(
                width,
                kept,
                ESA(width, esa_width, skip=esa_skip),
                dilations,
                residual,
                conv=conv,
            )
            for kept in per_block(distilled, depth, "distilled")
        )
        super().__init__(scale, data_range, width, blocks)
