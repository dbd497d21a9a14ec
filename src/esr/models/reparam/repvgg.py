"""RepVGG: k x k, 1x1 and identity, each with its own BatchNorm (Ding et al., CVPR 2021)."""

from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import Conv, Identity
from esr.models.reparam.geometry import Pair, geometry


class RepVGG(Block):
    """Sum of a k x k convolution, a 1x1 convolution and, where shapes allow, the input.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        batch_norm: normalise every branch as the paper does. Without it the branches have biases,
            which is usual in super-resolution, where BatchNorm costs quality.
        identity: have the third branch.

    Raises:
        UserError: even kernels, other padding, bias=False together with BatchNorm.
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
        identity: bool = True,
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
            bias_free=not batch_norm,
        )
        branches: dict[str, Branch] = {"conv": Conv(shape, norm=batch_norm)}
        branches["point"] = Conv(shape, (1, 1), norm=batch_norm)
        if identity and shape.keeps_shape:
            branches["identity"] = Identity(shape, norm=batch_norm)
        super().__init__(shape, branches)
