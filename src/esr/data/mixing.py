"""Augmentations that mix pixels, on the device: mixup of two patches, and CutBlur.

Both are driven by the numbers that the sampler drew, and a patch's partner is its neighbour in the
run (samples 2k and 2k+1), so the result does not depend on how a batch is divided among devices.
"""

from fractions import Fraction

import torch

from esr.data.resize import resize
from esr.errors import UserError


def mixup(
    lr: torch.Tensor, hr: torch.Tensor, uniform: torch.Tensor, probability: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend some pairs of patches with their neighbour: share * own + (1 - share) * neighbour's.

    Both patches of two neighbours are blended or neither, each with its own share in [0.5, 1), so
    that each stays the dominant one.

    Args:
        lr: float (N, 3, h, w), N even.
        hr: float (N, 3, H, W).
        uniform: drawn numbers in [0, 1), (N, 2).
        probability: of a blend.

    Raises:
        UserError: the number of patches on this device is odd.
    """
    count = len(lr)
    if count % 2:
        raise UserError(f"data.mixup pairs patches: {count} a device is odd, change batch_size")
    partner = torch.arange(count, device=lr.device) ^ 1
    chosen = uniform[:, 0].view(-1, 2)[:, 0].repeat_interleave(2) < probability
    share = torch.where(chosen, 0.5 + uniform[:, 1] / 2, torch.ones_like(uniform[:, 1]))
    share = share.view(-1, 1, 1, 1)
    return torch.lerp(lr[partner], lr, share), torch.lerp(hr[partner], hr, share)


def cutblur(
    lr: torch.Tensor, hr: torch.Tensor, uniform: torch.Tensor, probability: float
) -> torch.Tensor:
    """Make LR clean within a box, or outside of it: the network learns where to restore, and how
    much.

    CutBlur (Yoo et al., CVPR 2020, arXiv:2004.00448) pastes HR pixels into an LR image of HR size.
    Networks that take small LR images cannot see HR pixels, so the box is filled with the clean
    reduction of HR, which needs LR that is degraded beyond bicubic.

    Args:
        lr: degraded, float (N, 3, h, w).
        hr: float (N, 3, H, W).
        uniform: drawn numbers in [0, 1), (N, 6): apply, height, width, top, left, side.
        probability: of applying it.

    Returns:
        LR of the same shape.
    """
    height, width = lr.shape[-2:]
    clean = resize(hr, Fraction(width, hr.shape[-1])).clamp(0, 1)
    tall = (height * (0.2 + 0.5 * uniform[:, 1])).floor()
    wide = (width * (0.2 + 0.5 * uniform[:, 2])).floor()
    top = (uniform[:, 3] * (height - tall + 1)).floor()
    left = (uniform[:, 4] * (width - wide + 1)).floor()
    rows = torch.arange(height, device=lr.device).view(1, -1, 1)
    columns = torch.arange(width, device=lr.device).view(1, 1, -1)
    box = _within(rows, top, tall) & _within(columns, left, wide)
    box = box ^ (uniform[:, 5] < 0.5).view(-1, 1, 1)
    use = box & (uniform[:, 0] < probability).view(-1, 1, 1)
    return torch.where(use[:, None], clean, lr)


def _within(line: torch.Tensor, first: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    first, count = first.view(-1, 1, 1), count.view(-1, 1, 1)
    return (line >= first) & (line < first + count)
