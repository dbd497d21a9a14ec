"""RepRFN's block (CUC_SR, NTIRE 2023): nine branches without BatchNorm.

The team's factsheet shows the block only as a figure with Sobel, Laplacian and residual branches.
The rest (1x3, 3x1, 1x1, and a 1x1 -> 3x3 of twice the input's width without biases) is taken from a
public re-implementation and is an assumption.
"""

from dataclasses import replace

from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import LAPLACIAN, SOBEL_X, SOBEL_Y, Chain, Conv, Edge, Identity
from esr.models.reparam.geometry import Pair, geometry


class RepRFNBlock(Block):
    """3x3 + 1x3 + 3x1 + 1x1 + (1x1 -> 3x3) + three edge branches + input.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        identity: add the input where shapes allow.
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
            kernels=(3,),
        )
        branches: dict[str, Branch] = {
            "conv": Conv(shape),
            "horizontal": Conv(shape, (1, 3)),
            "vertical": Conv(shape, (3, 1)),
            "point": Conv(shape, (1, 1)),
            "expand": Chain(replace(shape, bias=False), expand=2 * in_channels),
            "sobel_x": Edge(shape, SOBEL_X),
            "sobel_y": Edge(shape, SOBEL_Y),
            "laplacian": Edge(shape, LAPLACIAN),
        }
        if identity and shape.keeps_shape:
            branches["identity"] = Identity(shape)
        super().__init__(shape, branches, collapsed)
