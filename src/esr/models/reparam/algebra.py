"""The arithmetic of merging linear branches into one convolution, on kernels alone.

A kernel is a pair (weight, bias) as in `nn.Conv2d`: weight (out, in / groups, k, k), bias (out,).
Everything here keeps dtype and device and is differentiable, so a merged kernel can also be trained
through; callers merge in float64, where the rounding of the sums is far below float32's.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from esr.errors import UserError


class Kernel(NamedTuple):
    """Weight (out, in / groups, k, k) and bias (out,) of a convolution; no bias is None."""

    weight: torch.Tensor
    bias: torch.Tensor | None


def of_conv(conv: nn.Conv2d) -> Kernel:
    """The kernel of a plain convolution."""
    return Kernel(conv.weight, conv.bias)


@torch.no_grad()
def fill(conv: nn.Conv2d, kernel: Kernel) -> None:
    """Give a plain convolution these weights, rounded to its own precision."""
    conv.weight.copy_(kernel.weight)
    if conv.bias is not None and kernel.bias is not None:
        conv.bias.copy_(kernel.bias)


def compose(first: Kernel, second: Kernel, groups: int = 1) -> Kernel:
    """The one kernel that equals `second(first(x))`, both with the same number of groups.

    Exact everywhere if the second convolution meets no padding of its own: either the input is
    padded before the first one, or the map between them is padded with the first one's bias (for a
    1x1 the same thing). At most one of the two may be strided or dilated, the other being 1x1.
    """
    (w1, b1), (w2, b2) = first, second
    merged = []
    for inner, outer in zip(w1.chunk(groups), w2.chunk(groups), strict=True):
        rows, cols = outer.shape[2:]
        reach = (rows - 1, cols - 1)
        kernel = F.conv2d(inner.transpose(0, 1), outer.flip(2, 3), padding=reach)
        merged.append(kernel.transpose(0, 1))
    if b1 is None:
        return Kernel(torch.cat(merged), b2)
    taps = w2.sum((2, 3))
    through = [tap @ bias for tap, bias in zip(taps.chunk(groups), b1.chunk(groups), strict=True)]
    return Kernel(torch.cat(merged), torch.cat(through) + (0 if b2 is None else b2))


def centre(kernel: Kernel, size: tuple[int, int]) -> Kernel:
    """Put an odd kernel into the middle of a larger one: a 1x1, 1x3 or 3x1 becomes a 3x3.

    Exact when each is zero-padded so that the output keeps the input's size.
    """
    rows, cols = ((size[axis] - kernel.weight.shape[2 + axis]) // 2 for axis in (0, 1))
    return Kernel(F.pad(kernel.weight, (cols, cols, rows, rows)), kernel.bias)


def add(kernels: Iterable[Kernel]) -> Kernel:
    """The kernel of parallel branches whose outputs are summed; all of one size."""
    kernels = list(kernels)
    weight = torch.stack([kernel.weight for kernel in kernels]).sum(0)
    biases = [kernel.bias for kernel in kernels if kernel.bias is not None]
    return Kernel(weight, torch.stack(biases).sum(0) if biases else None)


def subtract(kernel: Kernel, other: Kernel) -> Kernel:
    """The kernel that gives `kernel` once `other` is added to it."""
    return add([kernel, Kernel(-other.weight, None if other.bias is None else -other.bias)])


def identity(channels: int, groups: int, size: tuple[int, int], like: torch.Tensor) -> Kernel:
    """The kernel that returns its input, with dtype and device of `like`."""
    weight = like.new_zeros(channels, channels // groups, *size)
    index = torch.arange(channels)
    weight[index, index % (channels // groups), size[0] // 2, size[1] // 2] = 1
    return Kernel(weight, None)


def affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift (channels,) that a BatchNorm applies in eval mode.

    Raises:
        UserError: it keeps no running statistics, hence has no fixed scale to merge.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise UserError("BatchNorm without running statistics (track_running_stats=False)")
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def then_norm(kernel: Kernel, norm: nn.BatchNorm2d) -> Kernel:
    """The kernel of a convolution followed by BatchNorm in eval mode."""
    scale, shift = affine(norm)
    bias = shift if kernel.bias is None else shift + kernel.bias * scale
    return Kernel(kernel.weight * scale.view(-1, 1, 1, 1), bias)


def after_norm(norm: nn.BatchNorm2d, kernel: Kernel) -> Kernel:
    """The kernel of BatchNorm in eval mode followed by an ungrouped convolution.

    Exact at the border if the normalised map is padded with the norm's shift (`affine`), which is
    what a zero-padded input becomes.
    """
    scale, shift = affine(norm)
    through = torch.einsum("oihw,i->o", kernel.weight, shift)
    bias = through if kernel.bias is None else kernel.bias + through
    return Kernel(kernel.weight * scale.view(1, -1, 1, 1), bias)


def pad_with(x: torch.Tensor, value: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
    """Pad (N, C, H, W) by (rows, columns) on every side with one value per channel, (C,)."""
    rows, cols = padding
    batch, channels, height, width = x.shape
    padded = value.to(x.dtype).view(1, -1, 1, 1)
    padded = padded.expand(batch, channels, height + 2 * rows, width + 2 * cols).clone()
    padded[:, :, rows : rows + height, cols : cols + width] = x
    return padded
