"""Conv3XC: widened 1x1 -> k x k -> 1x1 beside a 1x1 skip (SPAN, NTIRE 2023 and 2024)."""

from esr.models.reparam.block import Block
from esr.models.reparam.branches import Chain, Conv
from esr.models.reparam.geometry import Pair, geometry


class Conv3XC(Block):
    """(1x1 -> k x k -> 1x1) + 1x1.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        gain: width inside in units of the channels outside.
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
        gain: int = 2,
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
        branches = {
            "chain": Chain(shape, expand=gain * in_channels, reduce=gain * out_channels),
            "skip": Conv(shape, (1, 1)),
        }
        super().__init__(shape, branches, collapsed)
