"""FMEN's attention as it is trained: BatchNorms that merge into the convolutions around them.

They bring the image's statistics into the mask and keep the sigmoid away from saturation (Du et
al., CVPR 2022 workshops). The two that precede a convolution would differ from it at the border, so
their maps are padded with what they make of zero.
"""

import copy
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.parts.gates import HFAB
from esr.models.reparam import algebra


class NormedHFAB(HFAB):
    """`HFAB` with BatchNorm on its input, on the stack's result and on the mask."""

    def __init__(self, width: int, mid: int, stack: nn.Module):
        super().__init__(width, mid, stack)
        self.norm_in = nn.BatchNorm2d(width)
        self.norm_mid = nn.BatchNorm2d(mid)
        self.norm_out = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = F.leaky_relu(_normed_conv(x, self.norm_in, self.squeeze), 0.1, inplace=True)
        mask = F.leaky_relu(self.stack(mask), 0.1, inplace=True)
        mask = self.norm_out(_normed_conv(mask, self.norm_mid, self.excite))
        return x * torch.sigmoid(mask)

    def fuse(self) -> HFAB:
        """The plain attention, equal to this one in eval mode; merged in float64.

        The stack's own blocks were merged before: children come before their parents.
        """
        exact = copy.deepcopy(self).to("cpu", torch.float64)
        plain = HFAB(self.squeeze.in_channels, self.squeeze.out_channels, self.stack)
        plain.squeeze, plain.excite = copy.deepcopy(self.squeeze), copy.deepcopy(self.excite)
        squeeze = algebra.after_norm(exact.norm_in, algebra.of_conv(exact.squeeze))
        excite = algebra.after_norm(exact.norm_mid, algebra.of_conv(exact.excite))
        algebra.fill(plain.squeeze, squeeze)
        algebra.fill(plain.excite, algebra.then_norm(excite, exact.norm_out))
        return plain

    @torch.no_grad()
    def load_plain(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Become the training form of an `HFAB` with this state dict: equal to it in eval mode.

        The BatchNorms pass everything through. Blocks in the stack take their weights themselves.
        """
        self.load_state_dict(weights, strict=False)
        for norm in (self.norm_in, self.norm_mid, self.norm_out):
            norm.reset_parameters()
            norm.weight.fill_(math.sqrt(1 + norm.eps))


def _normed_conv(x: torch.Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> torch.Tensor:
    padded = algebra.pad_with(norm(x), algebra.affine(norm)[1], (1, 1))
    return F.conv2d(padded, conv.weight, conv.bias)
