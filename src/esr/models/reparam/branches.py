"""The branches that the literature's blocks are made of: linear paths, equal to one kernel each."""

import math
from dataclasses import astuple, replace

import torch
import torch.nn.functional as F
from torch import nn

from esr.errors import UserError
from esr.models.reparam import algebra
from esr.models.reparam.algebra import Kernel
from esr.models.reparam.geometry import Geometry, Pair


class Branch(nn.Module):
    """One path through a block, (N, in, H, W) -> (N, out, H', W'); `shape` is the block's."""

    def __init__(self, shape: Geometry):
        super().__init__()
        self.shape = shape

    def kernel(self) -> Kernel:
        """The one convolution, of the block's kernel size, that this equals in eval mode."""
        raise NotImplementedError

    def reset(self) -> None:
        """Draw fresh initial weights and forget running statistics."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()

    def silence(self) -> None:
        """Make the contribution zero, by its last factor alone: training can bring it back."""
        # An identity has nothing to silence.

    def load(self, kernel: Kernel) -> None:
        """Become equal to `kernel`, if this is a block's main branch."""
        raise UserError(f"{type(self).__name__} cannot hold an arbitrary kernel")


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.detach().zero_()


class Conv(Branch):
    """A convolution, of the block's kernel size or a smaller one, optionally with BatchNorm."""

    def __init__(self, shape: Geometry, size: Pair | None = None, norm: bool = False):
        super().__init__(shape)
        size = size or shape.kernel_size
        bias = shape.bias and not norm  # the norm has one
        own = replace(shape, kernel_size=size, padding=shape.same_padding(size), bias=bias)
        self.conv = nn.Conv2d(*astuple(own))
        self.norm = nn.BatchNorm2d(shape.out_channels) if norm else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y if self.norm is None else self.norm(y)

    def kernel(self) -> Kernel:
        kernel = algebra.of_conv(self.conv)
        if self.norm is not None:
            kernel = algebra.then_norm(kernel, self.norm)
        return algebra.centre(kernel, self.shape.kernel_size)

    def silence(self) -> None:
        _zero(self.conv if self.norm is None else self.norm)

    def load(self, kernel: Kernel) -> None:
        weight, bias = kernel
        if self.norm is not None:
            scales = self.norm.weight.detach()
            scales[scales == 0] = 1  # a channel that was scaled to nothing could hold no kernel
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
    """

    def __init__(
        self,
        shape: Geometry,
        expand: int | None = None,  # channels after a first 1x1; None for no such convolution
        reduce: int | None = None,  # channels before a last 1x1; None for no such convolution
        skip: bool = False,  # add the k x k's input to its output; needs expand == reduce
    ):
        super().__init__(shape)
        self.skip = skip
        ins, outs, groups, bias = shape.in_channels, shape.out_channels, shape.groups, shape.bias
        first, last = expand or ins, reduce or outs
        if first % groups or last % groups:
            raise UserError(
                f"{first} and {last} channels inside are not divisible by {groups} groups"
            )
        spatial = replace(shape, in_channels=first, out_channels=last, padding=(0, 0))
        self.expand = nn.Conv2d(ins, first, 1, groups=groups, bias=bias) if expand else None
        self.spatial = nn.Conv2d(*astuple(spatial))
        self.reduce = nn.Conv2d(last, outs, 1, groups=groups, bias=bias) if reduce else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, cols = self.shape.padding
        x = F.pad(x, (cols, cols, rows, rows))
        if self.expand is not None:
            x = self.expand(x)
        y = self.spatial(x)
        if self.skip:
            y = y + x[:, :, rows : rows + y.shape[2], cols : cols + y.shape[3]]
        return y if self.reduce is None else self.reduce(y)

    def kernel(self) -> Kernel:
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
        _zero(self.reduce or self.spatial)

    def load(self, kernel: Kernel) -> None:
        """The first channels pass through the 1x1s, the others, if any, are not read."""
        groups = self.shape.groups
        first, last = self.spatial.in_channels, self.spatial.out_channels
        ins, outs = self.shape.in_channels, self.shape.out_channels
        if first < ins or last < outs:
            raise UserError(
                f"a chain of {first} and {last} channels cannot hold a {ins} -> {outs} kernel"
            )

        def grouped(tensor: torch.Tensor) -> torch.Tensor:  # a view: (groups, out / groups, ...)
            return tensor.detach().unflatten(0, (groups, -1))

        ins, outs = ins // groups, outs // groups
        weight = grouped(self.spatial.weight)
        weight[:, :outs] = 0
        weight[:, :outs, :ins] = grouped(kernel.weight)
        if self.skip:
            weight[:, :outs] -= grouped(self._identity().weight)[:, :outs]
        if self.spatial.bias is not None and kernel.bias is not None:
            grouped(self.spatial.bias)[:, :outs] = grouped(kernel.bias)
        if self.expand is not None:
            grouped(self.expand.weight)[:, :ins] = torch.eye(ins)[:, :, None, None]
            if self.expand.bias is not None:
                grouped(self.expand.bias)[:, :ins] = 0
        if self.reduce is not None:
            _zero(self.reduce)
            grouped(self.reduce.weight)[:, :, :outs] = torch.eye(outs)[:, :, None, None]

    def _identity(self) -> Kernel:
        channels, weight = self.spatial.out_channels, self.spatial.weight
        return algebra.identity(channels, self.shape.groups, self.shape.kernel_size, weight)


class Edge(Branch):
    """1x1, then the fixed 3x3 filter `mask`, with a learned scale and bias per channel."""

    mask: torch.Tensor

    def __init__(self, shape: Geometry, mask: tuple[tuple[float, ...], ...]):
        super().__init__(shape)
        channels = shape.out_channels
        self.point = nn.Conv2d(shape.in_channels, channels, 1, groups=shape.groups, bias=shape.bias)
        self.scale = nn.Parameter(torch.randn(channels, 1, 1, 1) * 1e-3)
        self.bias = nn.Parameter(torch.randn(channels) * 1e-3) if shape.bias else None
        self.register_buffer("mask", torch.tensor(mask).view(1, 1, 3, 3), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        to = self.shape
        rows, cols = to.padding
        y = self.point(F.pad(x, (cols, cols, rows, rows)))
        filters = self.scale * self.mask
        return F.conv2d(y, filters, self.bias, to.stride, 0, to.dilation, to.out_channels)

    def kernel(self) -> Kernel:
        filters = self.scale * self.mask
        weight = self.point.weight * filters
        if self.bias is None or self.point.bias is None:
            return Kernel(weight, None)
        return Kernel(weight, self.bias + self.point.bias * filters.sum((1, 2, 3)))

    def reset(self) -> None:
        super().reset()
        for parameter in self.parameters(recurse=False):  # scale and bias
            parameter.detach().normal_(std=1e-3)

    def silence(self) -> None:
        for parameter in self.parameters(recurse=False):
            parameter.detach().zero_()


class Identity(Branch):
    """The input itself, optionally with BatchNorm; needs equal shapes on both sides."""

    like: torch.Tensor

    def __init__(self, shape: Geometry, norm: bool = False):
        super().__init__(shape)
        self.norm = nn.BatchNorm2d(shape.out_channels) if norm else None
        self.register_buffer("like", torch.zeros(()), persistent=False)  # dtype and device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.norm is None else self.norm(x)

    def kernel(self) -> Kernel:
        shape = self.shape
        kernel = algebra.identity(shape.out_channels, shape.groups, shape.kernel_size, self.like)
        return kernel if self.norm is None else algebra.then_norm(kernel, self.norm)

    def silence(self) -> None:
        if self.norm is not None:
            _zero(self.norm)


class NormChain(Branch):
    """1x1 -> BatchNorm -> k x k -> BatchNorm, or average pooling for the k x k: two of DBB's.

    The map in the middle is padded with what its BatchNorm makes of zero, which keeps the merge
    exact at the border. The k x k follows a 1x1 that starts as an identity.
    """

    def __init__(self, shape: Geometry, pool: bool = False):
        super().__init__(shape)
        middle = shape.out_channels if pool else shape.in_channels
        self.point = nn.Conv2d(shape.in_channels, middle, 1, groups=shape.groups, bias=False)
        self.point_norm = nn.BatchNorm2d(middle)
        if pool:
            self.spatial = nn.AvgPool2d(shape.kernel_size, shape.stride)
        else:
            self.spatial = nn.Conv2d(*astuple(replace(shape, padding=(0, 0), bias=False)))
            self._start_as_identity()
        self.norm = nn.BatchNorm2d(shape.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.point_norm(self.point(x))
        y = algebra.pad_with(y, algebra.affine(self.point_norm)[1], self.shape.padding)
        return self.norm(self.spatial(y))

    def kernel(self) -> Kernel:
        first = algebra.then_norm(algebra.of_conv(self.point), self.point_norm)
        if isinstance(self.spatial, nn.Conv2d):
            second = algebra.then_norm(algebra.of_conv(self.spatial), self.norm)
            return algebra.compose(first, second, self.shape.groups)
        rows, cols = self.shape.kernel_size
        mean = Kernel((first.weight / (rows * cols)).expand(-1, -1, rows, cols), first.bias)
        return algebra.then_norm(mean, self.norm)

    def reset(self) -> None:
        super().reset()
        if isinstance(self.spatial, nn.Conv2d):
            self._start_as_identity()

    def silence(self) -> None:
        _zero(self.norm)

    def _start_as_identity(self) -> None:
        weight = self.point.weight.detach()
        weight.copy_(algebra.identity(len(weight), self.shape.groups, (1, 1), weight).weight)


class LowRank(Branch):
    """The kernel (alpha / rank) * B A, folded into a convolution's shape; B starts at zero.

    It is added to a kernel, not to a map: there is no `forward`, its block trains collapsed.
    """

    def __init__(self, shape: Geometry, rank: int, alpha: float):
        super().__init__(shape)
        self.scale = alpha / rank
        rows, cols = shape.kernel_size
        self.down = nn.Parameter(torch.empty(rank * rows, shape.in_channels * cols))
        self.up = nn.Parameter(torch.zeros(shape.out_channels // shape.groups * rows, rank * rows))
        self.reset()

    def kernel(self) -> Kernel:
        shape = self.shape
        columns = shape.in_channels // shape.groups
        update = (self.up @ self.down).view(shape.out_channels, columns, *shape.kernel_size)
        return Kernel(self.scale * update, None)

    def reset(self) -> None:
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def silence(self) -> None:
        self.up.detach().zero_()
