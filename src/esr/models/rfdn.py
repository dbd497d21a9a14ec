"""RFDN, winner of AIM 2020 Efficient SR, and entries of NTIRE 2022 that keep its block, the RFDB.

Liu et al., ECCV 2020 workshops. RFDN is the baseline of NTIRE 2022 and 2023.
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Even, PerBlock, Scale
from esr.models.outlines import FusionTrunk, SeriesTrunk
from esr.models.parts.distillation import RFDB
from esr.models.parts.gates import ESA, BranchedContext, ContextGate, HalvesGate, PixelAttention
from esr.models.parts.layers import per_block, pixel_shuffle_tail, silu


class RFDN(FusionTrunk):
    """Residual feature distillation blocks, their outputs fused.

    The defaults are the winner of AIM 2020 (4 blocks, 50 channels), which is what everybody
    compares with; the paper's own network has 6 blocks.
    """

    block: type[RFDB] = RFDB  # a network of other blocks names its own

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 50,
        depth: Depth = 4,
        distilled: PerBlock = 25,  # kept at each stage
        esa_width: Channels = 12,  # inside the attention
        esa_skip: bool = True,  # the 1x1 convolution on the attention's skip
        dilations: Sequence[int] = (1, 1, 1),  # of a block's stages
        residual: bool = True,  # False once the identity has been merged into the kernels
        conv: ConvFactory = nn.Conv2d,  # of the blocks' 3x3 convolutions
    ):
        def block(kept: int) -> RFDB:
            attention = ESA(width, esa_width, skip=esa_skip)
            return self.block(width, kept, attention, dilations, residual, conv=conv)

        blocks = map(block, per_block(distilled, depth, "distilled"))
        super().__init__(scale, data_range, width, blocks)


class AFDN(FusionTrunk):
    """RFDN with a gate for its ESA; biases only there and in the fusion (NJUST_RESTORARION)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 255.0,
        width: Even = 46,
        depth: Depth = 4,
        distilled: Channels = 23,  # kept at each stage
    ):
        conv = partial(nn.Conv2d, bias=False)
        blocks = (
            RFDB(width, distilled, HalvesGate(width), conv=conv, pointwise=conv)
            for _ in range(depth)
        )
        tail = pixel_shuffle_tail(width, scale, bias=False)
        super().__init__(scale, data_range, width, blocks, conv=conv, tail=tail)


class CLRFDN(FusionTrunk):
    """A narrow RFDN with SiLU and no convolution before the long skip (VAP, fastest of the table).

    It was trained with SESR's collapsible linear blocks (Bhardwaj et al., MLSys 2022), which merge.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 255.0,
        width: Channels = 32,
        depth: Depth = 4,
        distilled: Channels = 16,  # kept at each stage
        esa_width: Channels = 8,  # inside the attention
        conv: ConvFactory = nn.Conv2d,  # of the 3x3 convolutions of the head and the blocks
    ):
        blocks = [
            RFDB(width, distilled, ESA(width, esa_width), residual=False, act=silu, conv=conv)
            for _ in range(depth)
        ]
        for block in blocks:  # the released network activates this one twice
            block.last = nn.Sequential(block.last, silu())
        super().__init__(scale, data_range, width, blocks, act=nn.PReLU, conv=conv)
        self.trunk = nn.Identity()


class PlainRFDN(SeriesTrunk):
    """RFDN without the fusion of its blocks; its ESA does not stride (the EFDN of team NEESR)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 255.0,
        width: Channels = 42,
        depth: Depth = 4,
        distilled: Channels = 10,  # kept at each stage
        esa_width: Channels = 10,  # inside the attention
        conv: ConvFactory = nn.Conv2d,  # of the blocks' 3x3 convolutions
    ):
        def block() -> RFDB:
            attention = ContextGate(width, esa_width, BranchedContext(esa_width))
            return RFDB(width, distilled, attention, residual=False, conv=conv)

        super().__init__(scale, data_range, width, (block() for _ in range(depth)))


class RePAFDN(FusionTrunk):
    """RFDBs of different depth, fused, then pixel attention before the long skip (Super)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 48,
        stages: Sequence[int] = (2, 2, 2, 3),  # of each block
        distilled: Sequence[Channels] = (24, 24, 24, 12),  # kept at each stage, for each block
        esa_width: Channels = 12,  # inside the attention
        conv: ConvFactory = nn.Conv2d,  # of the blocks' 3x3 convolutions
    ):
        blocks = (
            RFDB(width, kept, ESA(width, esa_width), [1] * count, residual=False, conv=conv)
            for count, kept in zip(stages, distilled, strict=True)
        )
        super().__init__(scale, data_range, width, blocks)
        self.trunk = nn.Sequential(self.trunk, PixelAttention(width))
