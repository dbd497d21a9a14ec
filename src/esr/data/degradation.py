"""Blur, noise and JPEG on the LR patches, for real-world training (`data/degradation=realistic`).

HR patch -> Gaussian blur -> bicubic reduction -> Gaussian noise -> JPEG, each with a strength drawn
for every sample. All randomness is a hash of the sample's own seed, so a degraded patch is as
reproducible as a clean one, on any device and with any number of workers or ranks.
kornia does the blur and the JPEG; it is imported at first use, because importing it takes seconds.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated

import torch
from annotated_types import Interval
from torch import nn

from esr.data.resize import resize
from esr.errors import UserError

Probability = Annotated[float, Interval(ge=0, le=1)]


class Degradation(nn.Module):
    """Makes LR patches worse than bicubic. Every range is (smallest, largest), drawn uniformly."""

    def __init__(
        self,
        # Standard deviations: before the reduction in HR pixels, on LR in 8-bit levels; 0: none.
        blur: Sequence[float] = (0.2, 3.0),
        noise: Sequence[float] = (0.0, 15.0),
        jpeg: Sequence[float] | None = (40.0, 95.0),  # quality, 1 to 100; None: no compression
        probability: Probability = 1.0,  # of each of the three, for each sample
    ):
        super().__init__()
        self.blur = _range("blur", blur, 0, 20)
        self.noise = _range("noise", noise, 0, 255)
        self.jpeg = _range("jpeg", jpeg, 1, 100) if jpeg is not None else None
        if not 0 <= probability <= 1:
            raise UserError(f"data.degradation.probability lies in [0, 1], got {probability}")
        self.probability = probability

    def forward(self, lr: torch.Tensor, hr: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """Degraded LR (N, 3, h, w) from clean LR and HR, all in [0, 1], and the samples' seeds."""
        draws = hash_uniform(seeds, 6)
        apply = draws[:, 3:] < self.probability
        if self.blur[1] > 0:
            lr = self._blurred(lr, hr, _between(draws[:, 0], self.blur), apply[:, 0])
        if self.noise[1] > 0:
            level = _between(draws[:, 1], self.noise) / 255 * apply[:, 1]
            lr = (lr + level.view(-1, 1, 1, 1) * hash_normal(seeds, lr.shape[1:])).clamp(0, 1)
        if self.jpeg is not None:
            lr = self._compressed(lr, _between(draws[:, 2], self.jpeg), apply[:, 2])
        return lr

    def _blurred(
        self, lr: torch.Tensor, hr: torch.Tensor, sigma: torch.Tensor, apply: torch.Tensor
    ) -> torch.Tensor:
        from kornia.filters import gaussian_blur2d

        # Equal for every rank and batch size, hence from the largest sigma that can be drawn.
        radius = min(math.ceil(3 * self.blur[1]), hr.shape[-1] - 1, hr.shape[-2] - 1)
        sigmas = sigma.clamp(min=1e-3).view(-1, 1).expand(-1, 2)
        blurred = gaussian_blur2d(hr, 2 * radius + 1, sigmas)
        reduced = resize(blurred, Fraction(lr.shape[-1], hr.shape[-1])).clamp(0, 1)
        return torch.where(apply.view(-1, 1, 1, 1), reduced, lr)

    def _compressed(
        self, lr: torch.Tensor, quality: torch.Tensor, apply: torch.Tensor
    ) -> torch.Tensor:
        from kornia.enhance import jpeg_codec_differentiable

        height, width = lr.shape[-2:]
        # The codec takes multiples of 16; repeated edges do not ring into the patch.
        padding = (0, -width % 16, 0, -height % 16)
        padded = nn.functional.pad(lr, padding, mode="replicate")
        with torch.no_grad():
            coded = jpeg_codec_differentiable(padded, quality)[..., :height, :width]
        return torch.where(apply.view(-1, 1, 1, 1), coded.clamp(0, 1), lr)


def hash_uniform(seeds: torch.Tensor, count: int) -> torch.Tensor:
    """`count` numbers in [0, 1) for every seed, float32 (N, count): a hash, equal on any device."""
    steps = torch.arange(1, count + 1, device=seeds.device)
    x = seeds.view(-1, 1) + steps * -7046029254386353131  # splitmix64's golden-ratio step
    x = (x ^ _shift(x, 30)) * -4658895280553007687
    x = (x ^ _shift(x, 27)) * -7723592293110705685
    x = x ^ _shift(x, 31)
    return _shift(x, 40).float() * 2.0**-24


def hash_normal(seeds: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Standard normal numbers for every seed, float32 (N, *shape), by Box and Muller."""
    count = shape.numel()
    u = hash_uniform(seeds ^ 0x5DEECE66D, 2 * count)
    radius = torch.sqrt(-2 * torch.log1p(-u[:, :count]))
    return (radius * torch.cos(2 * math.pi * u[:, count:])).view(-1, *shape)


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int64 (torch's keeps the sign)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _between(unit: torch.Tensor, bounds: tuple[float, float]) -> torch.Tensor:
    return bounds[0] + unit * (bounds[1] - bounds[0])


def _range(name: str, values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    if len(values) != 2 or not low <= values[0] <= values[1] <= high:
        raise UserError(
            f"data.degradation.{name} is a range [smallest, largest] within {low} to {high}, "
            f"got {list(values)}"
        )
    return float(values[0]), float(values[1])
