"""RRRB: residual in residual re-parameterisable block (FMEN, NJU_Jet's network in 2022).

1x1 up, k x k with an inner skip, 1x1 down, and an outer skip. The paper's blocks have equal widths
on both sides; elsewhere the outer skip is left out and the wider side sets the middle's width.
"""

from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import Chain, Identity
from esr.models.reparam.geometry import Pair, geometry


class RRRB(Block):
    """(1x1 -> [k x k + skip] -> 1x1) + input.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        ratio: width in the middle in units of the wider side.
        collapsed: train through the merged kernel, see `Block`.

    Raises:
        UserError: even kernels, other padding, a stride.
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
        ratio: int = 2,
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
            strided=False,
        )
        middle = ratio * max(in_channels, out_channels)
        chain = Chain(shape, expand=middle, reduce=middle, skip=True)
        branches: dict[str, Branch] = {"chain": chain}
        if shape.keeps_shape:
            branches["identity"] = Identity(shape)
        super().__init__(shape, branches, collapsed)
