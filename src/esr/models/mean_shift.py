"""The shift by the data's mean colour that EDSR's descendants carry as a convolution."""

import torch
from torch import nn

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean R, G and B of DIV2K's training images, in [0, 1]."""


class MeanShift(nn.Conv2d):
    """Add `factor * DIV2K_MEAN` to an RGB image.

    It stays a convolution, frozen, because the official files hold its 12 numbers and the
    published counters include it.

    Args:
        factor: the value range with a sign: -1 subtracts, +1 adds the mean of images in [0, 1].
    """

    def __init__(self, factor: float):
        super().__init__(3, 3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3)[:, :, None, None])
            self.bias = nn.Parameter(factor * torch.tensor(DIV2K_MEAN))
        self.requires_grad_(False)
