"""MATLAB's bicubic `imresize`, bit for bit, at any rational scale.

The low-resolution images of the field's benchmarks are MATLAB's: an antialiased cubic (a = -0.5),
borders mirrored, rows first, then columns, and rounding to 8 bits after each of the two passes.
Both passes are products with a banded matrix, done block by block in float64 so that BLAS does
the work; one code serves every device.

Sums are snapped to a grid of 2**-20 before they are rounded. Exact results of rational scales lie
far coarser than that, so the snap only removes the summation order's noise (1e-13) from ties, and
results do not depend on the machine's BLAS.
"""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch

from esr.errors import UserError

_SNAP = float(2**20)
_ROWS = 32  # output rows a block: small enough to skip most of the band's zeros, large for BLAS


def imresize(image: np.ndarray, scale: float | Fraction) -> np.ndarray:
    """Resize like MATLAB's `imresize(image, scale, 'bicubic')` on uint8, (H, W, C) or (H, W).

    A float scale is read as the nearest fraction of a denominator up to 1000 (so `1 / 3` is exactly
    a third). Sides become ceil(side * scale); UserError unless uint8 and the scale positive.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise UserError(
            f"imresize takes uint8 images of shape (H, W) or (H, W, C), got {image.dtype} of shape "
            f"{image.shape}"
        )
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    out = resize(torch.from_numpy(np.ascontiguousarray(planes)), scale).numpy()
    return out[0] if image.ndim == 2 else np.ascontiguousarray(out.transpose(1, 2, 0))


def resize(x: torch.Tensor, scale: float | Fraction) -> torch.Tensor:
    """Resize the last two dimensions of `x` (..., H, W) on its own device.

    uint8 input follows MATLAB's 8-bit arithmetic (equal to `imresize`); floating-point input is
    neither rounded nor clipped between or after the passes and keeps its type.
    """
    factor = Fraction(scale).limit_denominator(1000)
    if factor <= 0:
        raise UserError(f"a scale must be positive, got {scale}")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise UserError(f"resize takes uint8 or floating-point tensors, got {x.dtype}")
    rows = _pass(x, factor)
    return _pass(rows.transpose(-1, -2).contiguous(), factor).transpose(-1, -2).contiguous()


def _pass(x: torch.Tensor, scale: Fraction) -> torch.Tensor:
    """Resize dimension -2 of `x`."""
    eight_bit = x.dtype == torch.uint8
    blocks = _blocks(x.shape[-2], scale, x.device)
    size = math.ceil(x.shape[-2] * scale)
    out = torch.empty((*x.shape[:-2], size, x.shape[-1]), dtype=x.dtype, device=x.device)
    row = 0
    for first, last, weights in blocks:
        part = torch.matmul(weights, x[..., first:last, :].to(torch.float64))
        if eight_bit:
            part = part.mul_(_SNAP).round_().div_(_SNAP).add_(0.5).floor_().clamp_(0, 255)
        out[..., row : row + len(weights), :] = part.to(x.dtype)
        row += len(weights)
    return out


@lru_cache(maxsize=64)
def _blocks(
    size: int, scale: Fraction, device: torch.device
) -> list[tuple[int, int, torch.Tensor]]:
    """Cut the banded matrix into dense blocks: (first input row, last + 1, float64 weights)."""
    indices, weights = _contributions(size, scale)
    blocks = []
    for start in range(0, len(indices), _ROWS):
        index, weight = indices[start : start + _ROWS], weights[start : start + _ROWS]
        first, last = int(index.min()), int(index.max()) + 1
        dense = np.zeros((len(index), last - first))
        # Mirroring at a border names one input row several times: the weights add up.
        np.add.at(dense, (np.arange(len(index))[:, None], index - first), weight)
        blocks.append((first, last, torch.from_numpy(dense).to(device)))
    return blocks


def _contributions(size: int, scale: Fraction) -> tuple[np.ndarray, np.ndarray]:
    """Which input rows make an output row, and with what weight: two (outputs, taps) arrays."""
    outputs = math.ceil(size * scale)
    factor = float(scale)
    shrink = min(factor, 1.0)  # antialiasing widens the kernel when shrinking
    width = 4.0 / shrink
    taps = math.ceil(width) + 2
    # The centre of output pixel i (from 1) in input coordinates, MATLAB's convention.
    centres = np.arange(1, outputs + 1) * scale.denominator / scale.numerator
    centres = centres + 0.5 * (1 - scale.denominator / scale.numerator)
    left = np.floor(centres - width / 2)
    indices = left[:, None] + np.arange(taps)
    weights = shrink * _cubic(shrink * (centres[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    mirror = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    indices = mirror[(indices.astype(np.int64) - 1) % (2 * size)]
    used = (weights != 0).any(axis=0)
    return indices[:, used], weights[:, used]


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
