"""DBB: diverse branch block (Ding et al., CVPR 2021), four branches with BatchNorm.

Where a 1x1 precedes a k x k or a pooling, the map between them is padded with what the BatchNorm
makes of zero, which keeps the merge exact at the border.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.reparam import algebra
from esr.models.reparam.algebra import Kernel
from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import Conv
from esr.models.reparam.geometry import Geometry, Pair, geometry


class NormChain(Branch):
    """1x1 -> BatchNorm -> k x k -> BatchNorm; the 1x1 starts as an identity.

    Args:
        shape: the block's convolution.
    """

    def __init__(self, shape: Geometry):
        super().__init__()
        self.shape = shape
        channels, groups = shape.in_channels, shape.groups
        self.point = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.point_norm = nn.BatchNorm2d(channels)
        self.spatial = nn.Conv2d(
            channels,
            shape.out_channels,
            shape.kernel_size,
            shape.stride,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(shape.out_channels)
        self._start_as_identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        y = self.point_norm(self.point(x))
        y = algebra.pad_with(y, algebra.affine(self.point_norm)[1], self.shape.padding)
        return self.norm(self.spatial(y))

    def kernel(self) -> Kernel:
        """See `Branch`."""
        first = algebra.then_norm(algebra.of_conv(self.point), self.point_norm)
        second = algebra.then_norm(algebra.of_conv(self.spatial), self.norm)
        return algebra.compose(first, second, self.shape.groups)

    def reset(self) -> None:
        """See `Branch`."""
        super().reset()
        self._start_as_identity()

    def silence(self) -> None:
        """See `Branch`."""
        _zero(self.norm)

    def _start_as_identity(self) -> None:
        weight = self.point.weight.detach()
        weight.copy_(algebra.identity(len(weight), self.shape.groups, (1, 1), weight).weight)


class NormPool(Branch):
    """1x1 -> BatchNorm -> average pooling -> BatchNorm.

    Args:
        shape: the block's convolution.
    """

    def __init__(self, shape: Geometry):
        super().__init__()
        self.shape = shape
        channels = shape.out_channels
        self.point = nn.Conv2d(shape.in_channels, channels, 1, groups=shape.groups, bias=False)
        self.point_norm = nn.BatchNorm2d(channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        y = self.point_norm(self.point(x))
        y = algebra.pad_with(y, algebra.affine(self.point_norm)[1], self.shape.padding)
        return self.norm(F.avg_pool2d(y, self.shape.kernel_size, self.shape.stride))

    def kernel(self) -> Kernel:
        """See `Branch`."""
        rows, cols = self.shape.kernel_size
        first = algebra.then_norm(algebra.of_conv(self.point), self.point_norm)
        mean = Kernel((first.weight / (rows * cols)).expand(-1, -1, rows, cols), first.bias)
        return algebra.then_norm(mean, self.norm)

    def silence(self) -> None:
        """See `Branch`."""
        _zero(self.norm)


def _zero(norm: nn.BatchNorm2d) -> None:
    for parameter in norm.parameters():
        parameter.detach().zero_()


class DBB(Block):
    """k x k + 1x1 + (1x1 -> k x k) + (1x1 -> average pooling); for a 1x1 kernel the first two.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.

    Raises:
        UserError: even kernels, other padding, dilation, bias=False (BatchNorm yields a bias).
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
            dilated=False,
            bias_free=False,
        )
        branches: dict[str, Branch] = {"conv": Conv(shape, norm=True)}
        branches["point"] = Conv(shape, (1, 1), norm=True)
        if shape.kernel_size != (1, 1):
            branches["expand"] = NormChain(shape)
            branches["pool"] = NormPool(shape)
        super().__init__(shape, branches)
