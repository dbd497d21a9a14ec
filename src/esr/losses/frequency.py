"""Distance between two-dimensional spectra: weighs texture, which L1 in pixels averages away.

SAFMN, ShuffleMixer and SMFANet add it to L1 with a weight of 0.05 to 0.1, RepRFN to Charbonnier.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from esr.losses.arguments import Weight
from esr.losses.weighted import Loss


class Fourier(Loss):
    """Mean absolute difference of the real 2-D FFT, per channel, over the half spectrum.

    The transform is not normalised by default, as where the published weights come from: a
    coefficient grows with the patch, so the same weight means more on larger patches.
    """

    def __init__(
        self,
        # Real and imaginary parts, averaged, or moduli alone, which ignore where things are.
        compare: Literal["complex", "amplitude"] = "complex",
        norm: Literal["backward", "ortho", "forward"] = "backward",  # of `torch.fft.rfft2`
        weight: Weight = 0.05,
    ):
        super().__init__(weight)
        self.compare = compare
        self.norm = norm

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        if self.compare == "complex":
            # The transform is linear: one of the difference serves for both.
            return torch.view_as_real(torch.fft.rfft2(sr - hr, norm=self.norm)).abs().mean()
        spectra = (torch.fft.rfft2(x, norm=self.norm).abs() for x in (sr, hr))
        return F.l1_loss(*spectra)
