"""What all re-parameterised blocks share: parallel linear branches that sum to one convolution."""

import copy
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from esr.errors import UserError
from esr.models.reparam import algebra
from esr.models.reparam.algebra import Kernel
from esr.models.reparam.geometry import Geometry


class Branch(nn.Module):
    """One linear path through a block."""

    def kernel(self) -> Kernel:
        """The one convolution, of the block's kernel size, that this equals in eval mode."""
        raise NotImplementedError

    def reset(self) -> None:
        """Draw fresh initial weights and forget running statistics."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()

    def silence(self) -> None:
        """Make the contribution zero in such a way that training can bring it back.

        The last factor becomes zero, the ones before it stay. An identity has nothing to silence.
        """

    def load(self, kernel: Kernel) -> None:
        """Become equal to `kernel`, if this is a block's main branch."""
        raise UserError(f"{type(self).__name__} cannot hold an arbitrary kernel")


class Block(nn.Module):
    """A drop-in for `nn.Conv2d` made of parallel branches; `fuse` merges them.

    Args:
        shape: the convolution to be equal to.
        branches: by name; the first one is the main branch, able to hold any kernel.
        collapsed: train through the merged kernel, as SESR does. The function and its gradients are
            the same up to rounding, while a step costs little more than a plain convolution's.
    """

    def __init__(self, shape: Geometry, branches: Mapping[str, Branch], collapsed: bool = False):
        super().__init__()
        self.shape = shape
        self.in_channels = shape.in_channels
        self.out_channels = shape.out_channels
        self.branches = nn.ModuleDict(branches)
        self.main = next(iter(branches))
        self.collapsed = collapsed
        self.retired: frozenset[str] = frozenset()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) -> what `nn.Conv2d` of the same arguments would give."""
        if self.collapsed:
            with torch.autocast(x.device.type, enabled=False):
                weight, bias = self.kernel()
            shape = self.shape
            return F.conv2d(
                x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups
            )
        active = self._active()
        y = active[0](x)
        for branch in active[1:]:
            y = y + branch(x)
        return y

    def kernel(self) -> Kernel:
        """The merged kernel in the parameters' own precision, differentiable."""
        return algebra.add(branch.kernel() for branch in self._active())

    def fuse(self) -> nn.Conv2d:
        """Merge into a plain convolution, computed in float64 and rounded once.

        Device, dtype, training flag and requires_grad carry over; a BatchNorm counts with its
        running statistics.
        """
        weight, bias = self._exact_kernel()
        shape, like = self.shape, next(self.parameters())
        conv = nn.Conv2d(
            shape.in_channels,
            shape.out_channels,
            shape.kernel_size,
            shape.stride,
            shape.padding,
            shape.dilation,
            shape.groups,
            bias=bias is not None,
            device=like.device,
            dtype=like.dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(weight)
            if conv.bias is not None and bias is not None:
                conv.bias.copy_(bias)
        conv.requires_grad_(any(parameter.requires_grad for parameter in self.parameters()))
        return conv.train(self.training)

    @torch.no_grad()
    def load_plain(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Become the training form of a plain convolution with these weights.

        The other branches start at zero contribution, the main one holds the rest. With BatchNorm
        this is exact in eval mode; in training mode the batch's statistics take over.

        Args:
            weight: (out, in / groups, k, k).
            bias: (out,), or None for a convolution without bias.

        Raises:
            UserError: the shape is another one, or a chain is too narrow to hold it.
        """
        shape = self.shape
        expected = (shape.out_channels, shape.in_channels // shape.groups, *shape.kernel_size)
        if tuple(weight.shape) != expected:
            raise UserError(f"expected a weight of shape {expected}, got {tuple(weight.shape)}")
        if (bias is not None) != shape.bias:
            found = "a bias" if bias is not None else "none"
            raise UserError(f"the block was built with bias={shape.bias}, the weights have {found}")
        for name, branch in self._named():
            if name != self.main:
                branch.silence()
        target = Kernel(_exact(weight), None if bias is None else _exact(bias))
        self._load_main(target)

    def mergeable(self) -> list[str]:
        """Names of the branches that `absorb` takes: all with weights but the main one."""
        return [
            name
            for name, branch in self.branches.items()
            if name != self.main and any(True for _ in branch.parameters())
        ]

    @torch.no_grad()
    def absorb(self, names: Iterable[str], retire: bool = False) -> None:
        """Move what some branches compute into the main one; the block's function stays the same.

        Args:
            names: some of `mergeable`.
            retire: take them out for good, see `retire`; otherwise they start afresh, with new
                weights and zero contribution.
        """
        names = list(names)
        unknown = [name for name in names if name not in self.mergeable()]
        if unknown:
            known = ", ".join(self.mergeable()) or "none"
            raise UserError(f"{type(self).__name__} cannot merge {unknown[0]!r}; it has {known}")
        target = self._exact_kernel()
        for name, branch in self._named():
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
        exact = copy.deepcopy(self).to("cpu", torch.float64)
        others = [branch.kernel() for name, branch in exact._named() if name != self.main]
        if others:
            target = algebra.subtract(target, algebra.add(others))
        main = exact._named()[0][1]
        main.load(target)
        state = self.branches[self.main].state_dict()
        for name, value in main.state_dict().items():
            state[name].copy_(value)

    def _named(self) -> list[tuple[str, Branch]]:
        named = [(name, module) for name, module in self.branches.items()]
        return [
            (name, module)
            for name, module in named
            if name not in self.retired and isinstance(module, Branch)
        ]

    def _active(self) -> list[Branch]:
        return [branch for _, branch in self._named()]

    @torch.no_grad()
    def _exact_kernel(self) -> Kernel:
        return copy.deepcopy(self).to("cpu", torch.float64).kernel()


def _exact(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", torch.float64)
