"""PSNR and SSIM, one convention: 8-bit rounding, border cropped, per image, then averaged.

Scores of super-resolution differ by tenths of a decibel between conventions, so there is exactly
one here and the functions' names spell it: `psnr_rgb` is the challenges' (one error over all
pixels and channels), `psnr_y` and `ssim_y` are the papers' (luma by MATLAB's `rgb2ycbcr` formula
on the 8-bit RGB, SSIM after Wang et al. 2004 over the region where the window fits). Sums are
float64 over exactly represented values, so a GPU and a CPU agree far below 1e-4 dB.

A non-finite pixel makes the score NaN: it is never hidden by the clamping.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from esr.errors import UserError

LUMA = (65.481, 128.553, 24.966)
"""ITU-R BT.601 weights of R, G and B in 0..255 for a luma of 16..235, as in MATLAB."""

WINDOW = 11
SIGMA = 1.5


def to_8bit(image: Tensor) -> Tensor:
    """Round [0, 1] to the integers 0..255 (float32); what is not finite becomes NaN."""
    levels = (image.float().clamp(0, 1) * 255).round()
    return torch.where(torch.isfinite(image), levels, torch.nan)


def luma(levels: Tensor) -> Tensor:
    """MATLAB's Y of RGB levels 0..255: (N, 3, H, W) to float64 (N, 1, H, W) in 16..235.

    Not rounded again: that would cost 0.02 dB, and the published figures come out without.
    """
    weights = torch.tensor(LUMA, dtype=torch.float64, device=levels.device).view(1, 3, 1, 1)
    return (levels.double() * weights).sum(1, keepdim=True) / 255 + 16


def psnr_rgb(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """PSNR over all three channels at once, as the challenges compute it, in decibels.

    `sr` and `hr` are RGB (N, 3, H, W) in [0, 1], clamped and rounded to 8 bits here; `border`
    pixels are ignored at each side, by convention the scale. Float64 (N,): infinite where the
    images are equal, NaN where `sr` is not finite. UserError if the shapes differ, or nothing is
    left inside the border.
    """
    return _psnr(*_levels(sr, hr, border))


def psnr_y(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """PSNR of the luma, as papers report it; arguments and result as of `psnr_rgb`."""
    sr, hr = _levels(sr, hr, border)
    return _psnr(luma(sr), luma(hr))


def ssim_y(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """SSIM of the luma as MATLAB's `ssim_index`: gaussian 11x11, sigma 1.5, valid region.

    Arguments and errors as of `psnr_rgb`, but 11x11 pixels must be left; float64 (N,) in -1..1.
    """
    sr, hr = _levels(sr, hr, border)
    if min(sr.shape[-2:]) < WINDOW:
        raise UserError(
            f"SSIM needs {WINDOW}x{WINDOW} pixels inside the border, "
            f"got {sr.shape[-1]}x{sr.shape[-2]}"
        )
    return _ssim(luma(sr), luma(hr))


def _levels(sr: Tensor, hr: Tensor, border: int) -> tuple[Tensor, Tensor]:
    if sr.shape != hr.shape:
        raise UserError(
            f"output and target differ in shape: {tuple(sr.shape)} against {tuple(hr.shape)}"
        )
    height, width = sr.shape[-2:]
    if min(height, width) <= 2 * border:
        raise UserError(f"nothing is left of {width}x{height} pixels inside a border of {border}")
    window = (..., slice(border, height - border), slice(border, width - border))
    return to_8bit(sr[window]), to_8bit(hr[window])


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    error = (a - b).square().sum(dim=(1, 2, 3), dtype=torch.float64)
    return 20 * torch.log10(255 / (error / a[0].numel()).sqrt())


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a**2
    var_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return similarity.mean(dim=(1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    """Separable gaussian, valid region: shifted sums, so that no device picks another algorithm."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).tolist()
    for dim in (-2, -1):
        length = x.shape[dim] - WINDOW + 1
        total = x.narrow(dim, 0, length) * weights[0]
        for i in range(1, WINDOW):
            total.add_(x.narrow(dim, i, length), alpha=weights[i])
        x = total
    return x


class MeanScore(Metric):
    """Mean of scores of images, right under DDP: every image counts once on the whole.

    States are a sum and a count, so batch sizes and the number of processes do not matter. Ours,
    because torchmetrics' own mean rounds to float32 once it is moved to a device. A process that
    is `alone` sees all images and asks no other one, which may not be listening.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, alone: bool = False) -> None:
        super().__init__(sync_on_compute=not alone)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, scores: Tensor, keep: Tensor | None = None) -> None:
        """Add scores of images (N,), of which `keep`, a bool (N,), names those that count.

        A distributed sampler repeats images to fill the last round; `keep` leaves them out.
        """
        if keep is not None:
            scores = scores[keep.to(scores.device)]
        self.total += scores.sum()
        self.count += scores.numel()

    def compute(self) -> Tensor:
        """NaN when there was no image."""
        return self.total / self.count

    def set_dtype(self, dst_type: str | torch.dtype) -> "MeanScore":
        return self  # sums stay float64 whatever precision the network is cast to


SCORES = {"psnr_rgb": psnr_rgb, "psnr_y": psnr_y, "ssim_y": ssim_y}
"""What is taken of each image at each validation, by the last part of its key."""
