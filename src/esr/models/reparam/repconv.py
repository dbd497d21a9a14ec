"""RepConv: RepVGG's block without its identity (YOLOv7's; also called RepConvN)."""

from esr.models.reparam.block import Block
from esr.models.reparam.branches import Conv
from esr.models.reparam.geometry import Pair, geometry


class RepConv(Block):
    """Sum of a k x k and a 1x1 convolution, each with its own BatchNorm.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.

    Raises:
        UserError: even kernels, other padding, bias=False (BatchNorm yields a bias).
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
            bias_free=False,
        )
        branches = {"conv": Conv(shape, norm=True), "point": Conv(shape, (1, 1), norm=True)}
        super().__init__(shape, branches)
