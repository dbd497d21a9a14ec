"""The branches that the literature's blocks are made of."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.errors import UserError
from esr.models.reparam import algebra
from esr.models.reparam.algebra import Kernel
from esr.models.reparam.block import Branch
from esr.models.reparam.geometry import Geometry, Pair

SOBEL_X = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
SOBEL_Y = ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0))
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


class Conv(Branch):
    """A convolution, of the block's kernel size or a smaller one, optionally with BatchNorm.

    Args:
        shape: the block's convolution.
        size: kernel size; None for the block's.
        norm: follow it by a BatchNorm, which replaces its bias.
    """

    def __init__(self, shape: Geometry, size: Pair | None = None, norm: bool = False):
        super().__init__()
        self.size = shape.kernel_size
        size = size or shape.kernel_size
        rows, cols = (step * (k - 1) // 2 for step, k in zip(shape.dilation, size, strict=True))
        self.conv = nn.Conv2d(
            shape.in_channels,
            shape.out_channels,
            size,
            shape.stride,
            (rows, cols),
            shape.dilation,
            shape.groups,
            bias=shape.bias and not norm,
        )
        self.norm = nn.BatchNorm2d(shape.out_channels) if norm else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        y = self.conv(x)
        return y if self.norm is None else self.norm(y)

    def kernel(self) -> Kernel:
        """See `Branch`."""
        kernel = algebra.of_conv(self.conv)
        if self.norm is not None:
            kernel = algebra.then_norm(kernel, self.norm)
        return algebra.centre(kernel, self.size)

    def silence(self) -> None:
        """See `Branch`; with BatchNorm it is the norm that is zeroed."""
        for parameter in (self.conv if self.norm is None else self.norm).parameters():
            parameter.detach().zero_()

    def load(self, kernel: Kernel) -> None:
        """See `Branch`; a channel whose BatchNorm scale is zero gets it back as one."""
        weight, bias = kernel
        if self.norm is not None:
            self.norm.weight.detach()[self.norm.weight.detach() == 0] = 1
            assert bias is not None  # blocks with BatchNorm refuse bias=False
            scale, shift = algebra.affine(self.norm)
            weight = weight / scale.view(-1, 1, 1, 1)
            self.norm.bias.detach().add_(bias - shift)
        elif self.conv.bias is not None and bias is not None:
            self.conv.bias.detach().copy_(bias)
        self.conv.weight.detach().copy_(weight)


class Chain(Branch):
    """[1x1 ->] k x k [-> 1x1] with nothing in between.

    The input is zero-padded before the first convolution, so that the map in the middle continues
    beyond the border with the first one's bias; that is what makes the merge exact there.

    Args:
        shape: the block's convolution.
        expand: channels after a first 1x1; None for no such convolution.
        reduce: channels before a last 1x1; None for no such convolution.
        skip: add the k x k convolution's input to its output (needs expand == reduce).
    """

    def __init__(
        self,
        shape: Geometry,
        expand: int | None = None,
        reduce: int | None = None,
        skip: bool = False,
    ):
        super().__init__()
        self.shape = shape
        self.skip = skip
        first, last = expand or shape.in_channels, reduce or shape.out_channels
        groups, bias = shape.groups, shape.bias
        if first % groups or last % groups:
            raise UserError(
                f"{first} and {last} channels inside are not divisible by {groups} groups"
            )
        self.expand = (
            nn.Conv2d(shape.in_channels, first, 1, groups=groups, bias=bias) if expand else None
        )
        self.spatial = nn.Conv2d(
            first,
            last,
            shape.kernel_size,
            shape.stride,
            0,
            shape.dilation,
            groups=groups,
            bias=bias,
        )
        self.reduce = (
            nn.Conv2d(last, shape.out_channels, 1, groups=groups, bias=bias) if reduce else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        rows, cols = self.shape.padding
        x = F.pad(x, (cols, cols, rows, rows))
        if self.expand is not None:
            x = self.expand(x)
        y = self.spatial(x)
        if self.skip:
            y = y + x[:, :, rows : rows + y.shape[2], cols : cols + y.shape[3]]
        return y if self.reduce is None else self.reduce(y)

    def kernel(self) -> Kernel:
        """See `Branch`."""
        groups = self.shape.groups
        kernel = algebra.of_conv(self.spatial)
        if self.skip:
            kernel = algebra.add([kernel, self._identity()])
        if self.expand is not None:
            kernel = algebra.compose(algebra.of_conv(self.expand), kernel, groups)
        if self.reduce is not None:
            kernel = algebra.compose(kernel, algebra.of_conv(self.reduce), groups)
        return kernel

    def silence(self) -> None:
        """See `Branch`."""
        for parameter in (self.reduce or self.spatial).parameters():
            parameter.detach().zero_()

    def load(self, kernel: Kernel) -> None:
        """See `Branch`: the first channels pass through the 1x1s, the others are not read.

        Raises:
            UserError: the chain has fewer channels inside than outside.
        """
        groups = self.shape.groups
        first, last = self.spatial.in_channels, self.spatial.out_channels
        ins, outs = self.shape.in_channels, self.shape.out_channels
        if first < ins or last < outs:
            raise UserError(
                f"a chain of {first} and {last} channels cannot hold a {ins} -> {outs} kernel"
            )
        weight = self.spatial.weight.detach().unflatten(0, (groups, -1))
        weight[:, : outs // groups] = 0
        weight[:, : outs // groups, : ins // groups] = kernel.weight.unflatten(0, (groups, -1))
        if self.skip:
            inner = self._identity().weight.unflatten(0, (groups, -1))
            weight[:, : outs // groups] -= inner[:, : outs // groups]
        if self.spatial.bias is not None and kernel.bias is not None:
            bias = self.spatial.bias.detach().unflatten(0, (groups, -1))
            bias[:, : outs // groups] = kernel.bias.unflatten(0, (groups, -1))
        if self.expand is not None:
            rows = self.expand.weight.detach().unflatten(0, (groups, -1))
            rows[:, : ins // groups] = torch.eye(ins // groups)[:, :, None, None].to(rows)
            if self.expand.bias is not None:
                self.expand.bias.detach().unflatten(0, (groups, -1))[:, : ins // groups] = 0
        if self.reduce is not None:
            for parameter in self.reduce.parameters():
                parameter.detach().zero_()
            rows = self.reduce.weight.detach().unflatten(0, (groups, -1))
            rows[:, :, : outs // groups] = torch.eye(outs // groups)[:, :, None, None].to(rows)

    def _identity(self) -> Kernel:
        weight = self.spatial.weight
        return algebra.identity(
            self.spatial.out_channels, self.shape.groups, self.shape.kernel_size, weight
        )


class Edge(Branch):
    """1x1, then a fixed edge filter on every channel with a learned scale and bias (ECBSR).

    Args:
        shape: the block's convolution, 3x3.
        mask: the filter, `SOBEL_X`, `SOBEL_Y` or `LAPLACIAN`.
    """

    mask: torch.Tensor

    def __init__(self, shape: Geometry, mask: tuple[tuple[float, ...], ...]):
        super().__init__()
        self.shape = shape
        channels = shape.out_channels
        self.point = nn.Conv2d(shape.in_channels, channels, 1, groups=shape.groups, bias=shape.bias)
        self.scale = nn.Parameter(torch.randn(channels, 1, 1, 1) * 1e-3)
        self.bias = nn.Parameter(torch.randn(channels) * 1e-3) if shape.bias else None
        self.register_buffer("mask", torch.tensor(mask).view(1, 1, 3, 3), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        rows, cols = self.shape.padding
        y = self.point(F.pad(x, (cols, cols, rows, rows)))
        stride, dilation = self.shape.stride, self.shape.dilation
        weight = self.scale * self.mask
        return F.conv2d(y, weight, self.bias, stride, 0, dilation, self.shape.out_channels)

    def kernel(self) -> Kernel:
        """See `Branch`."""
        filters = self.scale * self.mask
        weight = self.point.weight * filters
        if self.bias is None or self.point.bias is None:
            return Kernel(weight, None)
        return Kernel(weight, self.bias + self.point.bias * filters.sum((1, 2, 3)))

    def reset(self) -> None:
        """See `Branch`."""
        super().reset()
        self.scale.detach().normal_(std=1e-3)
        if self.bias is not None:
            self.bias.detach().normal_(std=1e-3)

    def silence(self) -> None:
        """See `Branch`."""
        self.scale.detach().zero_()
        if self.bias is not None:
            self.bias.detach().zero_()


class Identity(Branch):
    """The input itself, optionally with BatchNorm; needs equal shapes on both sides.

    Args:
        shape: the block's convolution.
        norm: normalise it.
    """

    like: torch.Tensor

    def __init__(self, shape: Geometry, norm: bool = False):
        super().__init__()
        self.shape = shape
        self.norm = nn.BatchNorm2d(shape.out_channels) if norm else None
        self.register_buffer("like", torch.zeros(()), persistent=False)  # dtype and device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        return x if self.norm is None else self.norm(x)

    def kernel(self) -> Kernel:
        """See `Branch`."""
        shape = self.shape
        kernel = algebra.identity(shape.out_channels, shape.groups, shape.kernel_size, self.like)
        return kernel if self.norm is None else algebra.then_norm(kernel, self.norm)

    def silence(self) -> None:
        """See `Branch`; only a normalised identity can be silenced."""
        if self.norm is not None:
            for parameter in self.norm.parameters():
                parameter.detach().zero_()
