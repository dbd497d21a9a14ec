"""What all re-parameterised blocks share: parallel linear branches that sum to one convolution."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import astuple, replace
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import nn

from esr.errors import UserError
from esr.models.reparam import algebra
from esr.models.reparam.algebra import Kernel
from esr.models.reparam.branches import Branch
from esr.models.reparam.geometry import ConvOptions, Geometry, pair


class Block(nn.Module):
    """A drop-in for `nn.Conv2d` made of parallel branches that sum up; `fuse` merges them.

    A subclass fills `branches`; the first is the main one, able to hold any kernel.
    """

    kernels: tuple[int, ...] = ()  # sides of the square kernels it exists for; (): every odd kernel
    strided = True  # whether it can have a stride
    dilated = True  # whether it can have a dilation

    def __init__(
        self,
        *conv: Any,  # the arguments of `nn.Conv2d`, by position; by name they are `options`
        batch_norm: bool = False,  # whether the branches end in one
        # Train through the merged kernel, as SESR does: the same function and gradients up to
        # rounding, while a step costs little more than a plain convolution's.
        collapsed: bool = False,
        **options: Unpack[ConvOptions],
    ):
        super().__init__()
        try:
            self.shape = self.geometry(*conv, **options)
        except TypeError as error:  # not the arguments of a convolution
            raise TypeError(f"{type(self).__name__}: {error}") from error
        if batch_norm and not self.shape.bias:
            raise UserError(
                f"{type(self).__name__} merges a BatchNorm, which yields a bias: "
                "bias=False is impossible"
            )
        self.in_channels = self.shape.in_channels
        self.out_channels = self.shape.out_channels
        self.branches = nn.ModuleDict()
        self.collapsed = collapsed
        self.retired: frozenset[str] = frozenset()

    def geometry(self, *conv: Any, **options: Unpack[ConvOptions]) -> Geometry:
        """The merged convolution of these arguments.

        Raises:
            UserError: the block could not merge exactly into it.
        """
        block = type(self).__name__
        given: Any = Geometry(*conv, **options)  # pyright: ignore  # its sizes may be numbers yet
        kernel_size, stride, padding = given.kernel_size, given.stride, given.padding
        rows, cols = size = pair(kernel_size)
        if rows % 2 == 0 or cols % 2 == 0:
            raise UserError(f"{block} needs an odd kernel size, got {kernel_size}")
        if self.kernels and (rows != cols or rows not in self.kernels):
            allowed = " or ".join(f"{k}x{k}" for k in self.kernels)
            raise UserError(f"{block} exists for {allowed} kernels, got {rows}x{cols}")
        if not self.strided and pair(stride) != (1, 1):
            raise UserError(f"{block} keeps an identity and needs stride 1, got {stride}")
        if not self.dilated and pair(given.dilation) != (1, 1):
            raise UserError(f"{block} has no dilated form, got dilation={given.dilation}")
        if isinstance(padding, str):
            raise UserError(f"{block} takes padding as a number, got '{padding}'")
        wide = pair(given.dilation)
        shape: Geometry = replace(
            given, kernel_size=size, stride=pair(stride), padding=pair(padding), dilation=wide
        )
        same = shape.same_padding(size)
        if shape.padding != same:
            raise UserError(
                f"{block} aligns its branches by zero padding of {same} for a {rows}x{cols} "
                f"kernel with dilation {given.dilation}, got padding={padding}"
            )
        for name in ("in_channels", "out_channels"):
            if (channels := getattr(shape, name)) % shape.groups:
                raise UserError(
                    f"{block}: {name}={channels} is not divisible by groups={shape.groups}"
                )
        return shape

    @property
    def main(self) -> str:
        """Name of the branch that takes over what others computed."""
        return next(iter(self.branches))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.collapsed:
            with torch.autocast(x.device.type, enabled=False):
                weight, bias = self.kernel()
            to = self.shape
            return F.conv2d(x, weight, bias, to.stride, to.padding, to.dilation, to.groups)
        first, *others = self._active().values()
        y = first(x)
        for branch in others:
            y = y + branch(x)
        return y

    def kernel(self) -> Kernel:
        """The merged kernel in the parameters' own precision, differentiable."""
        return algebra.add(branch.kernel() for branch in self._active().values())

    def fuse(self) -> nn.Conv2d:
        """Merge into a plain convolution, computed in float64 and rounded once.

        Device, dtype, training flag and requires_grad carry over; a BatchNorm counts with its
        running statistics.
        """
        like = next(self.parameters())
        conv = nn.Conv2d(*astuple(self.shape), device=like.device, dtype=like.dtype)
        algebra.fill(conv, self._exact_kernel())
        conv.requires_grad_(any(parameter.requires_grad for parameter in self.parameters()))
        return conv.train(self.training)

    @torch.no_grad()
    def load_plain(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Become the training form of a plain convolution with this state dict.

        The other branches start at zero contribution, the main one holds the rest. With BatchNorm
        this is exact in eval mode; in training mode the batch's statistics take over.

        Raises:
            UserError: the shape is another one, or a chain is too narrow to hold it.
        """
        weight, bias = weights["weight"], weights.get("bias")
        shape = self.shape
        expected = (shape.out_channels, shape.in_channels // shape.groups, *shape.kernel_size)
        if tuple(weight.shape) != expected:
            raise UserError(f"expected a weight of shape {expected}, got {tuple(weight.shape)}")
        if (bias is not None) != shape.bias:
            found = "a bias" if bias is not None else "none"
            raise UserError(f"the block was built with bias={shape.bias}, the weights have {found}")
        for name, branch in self._active().items():
            if name != self.main:
                branch.silence()
        self._load_main(
            Kernel(weight.cpu().double(), None if bias is None else bias.cpu().double())
        )

    def mergeable(self) -> list[str]:
        """Names of the branches that `absorb` takes: all with weights but the main one."""
        _, *others = self.branches.items()
        return [name for name, branch in others if any(True for _ in branch.parameters())]

    @torch.no_grad()
    def absorb(self, names: Iterable[str], retire: bool = False) -> None:
        """Move what some of the `mergeable` compute into the main branch; the function stays.

        With `retire` they are out for good, else they start afresh: new weights, no contribution.
        """
        names = list(names)
        unknown = [name for name in names if name not in self.mergeable()]
        if unknown:
            known = ", ".join(self.mergeable()) or "none"
            raise UserError(f"{type(self).__name__} cannot merge {unknown[0]!r}; it has {known}")
        target = self._exact_kernel()
        for name, branch in self._active().items():
            if name in names:
                branch.reset()
                branch.silence()
        if retire:
            self.retire(names)
        self._load_main(target)

    def retire(self, names: Iterable[str]) -> None:
        """Skip and freeze branches that contribute nothing.

        Not a part of the state dict, because it only saves time. Loading weights, which may be
        older, ends it.
        """
        self.retired = self.retired | frozenset(names)
        for name in self.retired:
            self.branches[name].requires_grad_(False)

    def _load_from_state_dict(self, *args) -> None:
        self.retired = frozenset()
        super()._load_from_state_dict(*args)

    def _load_main(self, target: Kernel) -> None:
        main, *others = copy.deepcopy(self).to("cpu", torch.float64)._active().values()
        if others:
            target = algebra.subtract(target, algebra.add(other.kernel() for other in others))
        main.load(target)
        self.branches[self.main].load_state_dict(main.state_dict())

    def _active(self) -> dict[str, Branch]:
        return {
            name: branch
            for name, branch in self.branches.items()
            if name not in self.retired and isinstance(branch, Branch)
        }

    @torch.no_grad()
    def _exact_kernel(self) -> Kernel:
        return copy.deepcopy(self).to("cpu", torch.float64).kernel()
