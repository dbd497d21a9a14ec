"""Distances between pixels, averaged over all of them. Values are in [0, 1], not 0..255."""

import torch
from torch import Tensor
from torch.nn import functional as F

from esr.losses.arguments import Weight
from esr.losses.weighted import Loss


class L1(Loss):
    """Mean absolute error: what nearly every network of the challenge was trained with."""

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        return F.l1_loss(sr, hr)


class L2(Loss):
    """Mean squared error: the usual last stage, because PSNR is made of it."""

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        return F.mse_loss(sr, hr)


class Charbonnier(Loss):
    """A smooth L1, the mean of `sqrt((sr - hr)^2 + eps^2)`, as super-resolution uses it (LapSRN).

    It is `eps`, not 0, where the images are equal. kornia's loss of the same name is another
    function, `sqrt((sr - hr)^2 + 1) - 1`.
    """

    def __init__(
        self,
        eps: float = 1e-3,  # half-width of the rounded tip, in units of the image's range
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.eps = eps

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        return torch.sqrt((sr - hr).square() + self.eps**2).mean()


class Huber(Loss):
    """Half the square of differences below `delta`, in units of the image's range; linear above."""

    def __init__(self, delta: float = 0.01, weight: Weight = 1.0):
        super().__init__(weight)
        self.delta = delta

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        return F.huber_loss(sr, hr, delta=self.delta)
