"""ConvLoRA: a convolution with a low-rank update of its kernel (as in DSCF, NTIRE 2025).

The update is added to the kernel before convolving, so a step costs what a plain one costs. Its
second factor starts at zero: fine-tuning from deploy weights starts at exactly that network.
"""

import math

import torch
from torch import nn

from esr.models.reparam.algebra import Kernel
from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import Conv
from esr.models.reparam.geometry import Geometry, Pair, geometry


class LowRank(Branch):
    """The kernel (alpha / rank) * B A, folded into a convolution's shape.

    Args:
        shape: the block's convolution.
        rank: inner size of the product in units of the kernel's rows.
        alpha: scale.
    """

    def __init__(self, shape: Geometry, rank: int, alpha: float):
        super().__init__()
        self.shape = shape
        self.scale = alpha / rank
        rows, cols = shape.kernel_size
        self.down = nn.Parameter(torch.empty(rank * rows, shape.in_channels * cols))
        self.up = nn.Parameter(torch.zeros(shape.out_channels // shape.groups * rows, rank * rows))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def kernel(self) -> Kernel:
        """See `Branch`."""
        shape = self.shape
        update = (self.up @ self.down).view(
            shape.out_channels, shape.in_channels // shape.groups, *shape.kernel_size
        )
        return Kernel(self.scale * update, None)

    def reset(self) -> None:
        """See `Branch`."""
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def silence(self) -> None:
        """See `Branch`."""
        self.up.detach().zero_()


class ConvLoRA(Block):
    """Convolution with kernel W + (alpha / rank) * B A.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        rank: of the update, in units of the kernel's rows (A is rank*k x in*k).
        alpha: scale of the update.
        freeze: keep W and its bias fixed. Only sensible when they come from trained weights.

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
        rank: int = 4,
        alpha: float = 1.0,
        freeze: bool = True,
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
        branches: dict[str, Branch] = {"conv": Conv(shape), "low_rank": LowRank(shape, rank, alpha)}
        branches["conv"].requires_grad_(not freeze)
        super().__init__(shape, branches, collapsed=True)
