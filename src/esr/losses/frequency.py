"""Distance between two-dimensional spectra: weighs texture, which L1 in pixels averages away.

SAFMN, ShuffleMixer and SMFANet add it to L1 with a weight of 0.05 to 0.1, RepRFN to Charbonnier.
"""

from typing import Literal

import torch
from torch.nn import functional as F

from esr.losses.weighted import Loss


class Fourier(Loss):
    """Mean absolute difference of the real 2-D FFT, per channel.

    The transform is not normalised by default, as where the published weights come from: a
    coefficient grows with the patch, so the same weight means more on larger patches.

    Args:
        compare: "complex": real and imaginary parts, averaged over both; "amplitude": moduli
            only, which ignores where things are.
        norm: normalisation of `torch.fft.rfft2`.
        weight: factor of this term in the sum.
    """

    def __init__(
        self,
        compare: Literal["complex", "amplitude"] = "complex",
        norm: Literal["backward", "ortho", "forward"] = "backward",
        weight: float = 0.05,
    ):
        super().__init__(weight)
        self.compare = compare
        self.norm = norm

    def forward(self, sr: torch.Tensor, hr: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """Return the mean over all coefficients of the half spectrum."""
        if self.compare == "complex":
            # The transform is linear: one of the difference serves for both.
            return torch.view_as_real(torch.fft.rfft2(sr - hr, norm=self.norm)).abs().mean()
        spectra = (torch.fft.rfft2(x, norm=self.norm).abs() for x in (sr, hr))
        return F.l1_loss(*spectra)
