"""A convolution plus its input: the skip disappears into the kernel's centre when merged.

NTU607QCO's and MegSR's RFDN variants (NTIRE 2022) deploy the residual 3x3s of RFDN this way.
"""

from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import Conv, Identity
from esr.models.reparam.geometry import Pair, geometry


class ResidualConv(Block):
    """k x k convolution + input; a plain convolution where the shapes differ.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.

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
        branches: dict[str, Branch] = {"conv": Conv(shape)}
        if shape.keeps_shape:
            branches["identity"] = Identity(shape)
        super().__init__(shape, branches)
