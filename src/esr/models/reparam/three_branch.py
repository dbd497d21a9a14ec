"""The training block of IMDN+ (team rainbow, NTIRE 2022): a 3x3 and two widened ones beside it."""

from esr.models.reparam.block import Block
from esr.models.reparam.branches import Chain, Conv
from esr.models.reparam.geometry import Pair, geometry


class ThreeBranch(Block):
    """3x3 + (1x1 to twice the width -> 3x3) + (1x1 to four times the width -> 3x3).

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        multipliers: widths of the two chains in units of in_channels (72 and 144 for 36).
        collapsed: train through the merged kernel, see `Block`.

    Raises:
        UserError: even kernels, other padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        multipliers: tuple[int, int] = (2, 4),
        collapsed: bool = False,
    ):
        shape = geometry(
            type(self).__name__,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
        )
        narrow, wide = multipliers
        branches = {
            "conv": Conv(shape),
            "expand": Chain(shape, expand=narrow * in_channels),
            "expand_more": Chain(shape, expand=wide * in_channels),
        }
        super().__init__(shape, branches, collapsed)
