"""ECB: edge-oriented convolution block (ECBSR, ACM MM 2021; also NEESR's network in 2022)."""

from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import LAPLACIAN, SOBEL_X, SOBEL_Y, Chain, Conv, Edge, Identity
from esr.models.reparam.geometry import Pair, geometry


class ECB(Block):
    """3x3 + (1x1 -> 3x3) + three (1x1 -> scaled Sobel-x, Sobel-y, Laplacian) [+ input].

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        depth_multiplier: width of the second branch in units of out_channels.
        identity: add the input where shapes allow; the released configurations do not.
        collapsed: train through the merged kernel, see `Block`.

    Raises:
        UserError: kernels other than 3x3, other padding.
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
        depth_multiplier: float = 2.0,
        identity: bool = False,
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
            kernels=(3,),
        )
        branches: dict[str, Branch] = {
            "conv": Conv(shape),
            "expand": Chain(shape, expand=int(out_channels * depth_multiplier)),
            "sobel_x": Edge(shape, SOBEL_X),
            "sobel_y": Edge(shape, SOBEL_Y),
            "laplacian": Edge(shape, LAPLACIAN),
        }
        if identity and shape.keeps_shape:
            branches["identity"] = Identity(shape)
        super().__init__(shape, branches, collapsed)
