"""ACB: asymmetric convolutions strengthen a square kernel's skeleton (ACNet, ICCV 2019)."""

from esr.models.reparam.block import Block
from esr.models.reparam.branches import Conv
from esr.models.reparam.geometry import Pair, geometry


class ACB(Block):
    """Sum of a k x k, a 1 x k and a k x 1 convolution.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        batch_norm: normalise every branch as the paper does.

    Raises:
        UserError: kernels other than 3, 5, 7, other padding, bias=False with BatchNorm.
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
        batch_norm: bool = True,
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
            kernels=(3, 5, 7),
            bias_free=not batch_norm,
        )
        rows, cols = shape.kernel_size
        branches = {
            "conv": Conv(shape, norm=batch_norm),
            "horizontal": Conv(shape, (1, cols), norm=batch_norm),
            "vertical": Conv(shape, (rows, 1), norm=batch_norm),
        }
        super().__init__(shape, branches)
