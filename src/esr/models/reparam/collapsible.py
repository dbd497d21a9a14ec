"""Collapsible linear block (SESR, MLSys 2022; also VAP's network in NTIRE 2022).

A k x k convolution into many channels, a 1x1 back, and the input where shapes allow.
"""

from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import Chain, Identity
from esr.models.reparam.geometry import Pair, geometry


class CollapsibleLinear(Block):
    """(k x k -> 1x1) + input.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        mid_channels: channels in the middle; the paper's 256; rounded up to a multiple of groups.
        identity: add the input where shapes allow.
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
        mid_channels: int = 256,
        identity: bool = True,
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
        middle = -(-mid_channels // groups) * groups
        branches: dict[str, Branch] = {"chain": Chain(shape, reduce=middle)}
        if identity and shape.keeps_shape:
            branches["identity"] = Identity(shape)
        super().__init__(shape, branches, collapsed)
