"""ECB: edge-oriented convolution block (ECBSR, ACM MM 2021; also NEESR's network in 2022)."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.reparam import algebra
from esr.models.reparam.algebra import Kernel
from esr.models.reparam.block import Block, Branch
from esr.models.reparam.branches import LAPLACIAN, SOBEL_X, SOBEL_Y, Chain, Conv, Edge, Identity
from esr.models.reparam.geometry import Geometry, Pair, geometry


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


# ACB: asymmetric convolutions strengthen a square kernel's skeleton (ACNet, ICCV 2019).


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


# Collapsible linear block (SESR, MLSys 2022; also VAP's network in NTIRE 2022).
#
# A k x k convolution into many channels, a 1x1 back, and the input where shapes allow.


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


# Conv3XC: widened 1x1 -> k x k -> 1x1 beside a 1x1 skip (SPAN, NTIRE 2023 and 2024).


class Conv3XC(Block):
    """(1x1 -> k x k -> 1x1) + 1x1.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        gain: width inside in units of the channels outside.
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
        gain: int = 2,
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
        branches = {
            "chain": Chain(shape, expand=gain * in_channels, reduce=gain * out_channels),
            "skip": Conv(shape, (1, 1)),
        }
        super().__init__(shape, branches, collapsed)


# ConvLoRA: a convolution with a low-rank update of its kernel (as in DSCF, NTIRE 2025).
#
# The update is added to the kernel before convolving, so a step costs what a plain one costs. Its
# second factor starts at zero: fine-tuning from deploy weights starts at exactly that network.


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


# DBB: diverse branch block (Ding et al., CVPR 2021), four branches with BatchNorm.
#
# Where a 1x1 precedes a k x k or a pooling, the map between them is padded with what the BatchNorm
# makes of zero, which keeps the merge exact at the border.


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


# EDBB: edge-enhanced diverse branch block (EFDN, NKU-ESR's network in 2022): seven branches.


class EDBB(Block):
    """ECB plus a 1x1 convolution plus the input.

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        depth_multiplier: width of the 1x1 -> 3x3 branch in units of out_channels.
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
        depth_multiplier: float = 2.0,
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
            "point": Conv(shape, (1, 1)),
            "expand": Chain(shape, expand=int(out_channels * depth_multiplier)),
            "sobel_x": Edge(shape, SOBEL_X),
            "sobel_y": Edge(shape, SOBEL_Y),
            "laplacian": Edge(shape, LAPLACIAN),
        }
        if identity and shape.keeps_shape:
            branches["identity"] = Identity(shape)
        super().__init__(shape, branches, collapsed)


# RepConv: RepVGG's block without its identity (YOLOv7's; also called RepConvN).


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


# RepRFN's block (CUC_SR, NTIRE 2023): nine branches without BatchNorm.
#
# The team's factsheet shows the block only as a figure with Sobel, Laplacian and residual branches.
# The rest (1x3, 3x1, 1x1, and a 1x1 -> 3x3 of twice the input's width without biases) is taken from a
# public re-implementation and is an assumption.


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


# RepVGG: k x k, 1x1 and identity, each with its own BatchNorm (Ding et al., CVPR 2021).


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


# A convolution plus its input: the skip disappears into the kernel's centre when merged.
#
# NTU607QCO's and MegSR's RFDN variants (NTIRE 2022) deploy the residual 3x3s of RFDN this way.


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


# RRRB: residual in residual re-parameterisable block (FMEN, NJU_Jet's network in 2022).
#
# 1x1 up, k x k with an inner skip, 1x1 down, and an outer skip. The paper's blocks have equal widths
# on both sides; elsewhere the outer skip is left out and the wider side sets the middle's width.


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


# The training block of IMDN+ (team rainbow, NTIRE 2022): a 3x3 and two widened ones beside it.


class ThreeBranch(Block):
    """3x3 + (1x1 to twice the width -> 3x3) + (1x1 to four times the width -> 3x3).

    Args:
        in_channels: as in `nn.Conv2d`, like all up to `bias`; padding must keep the size.
        multipliers: widths of the two chains in units of in_channels (72 and 144 for 36).
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
        multipliers: tuple[int, int] = (2, 4),
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
        narrow, wide = multipliers
        branches = {
            "conv": Conv(shape),
            "expand": Chain(shape, expand=narrow * in_channels),
            "expand_more": Chain(shape, expand=wide * in_channels),
        }
        super().__init__(shape, branches, collapsed)
