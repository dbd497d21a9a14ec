"""FMEN's attention as it is trained: BatchNorms that merge into the convolutions around them.

They bring the image's statistics into the mask and keep the sigmoid away from saturation (Du et
al., CVPR 2022 workshops). The two that precede a convolution would differ from it at the border, so
their maps are padded with what they make of zero.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.parts.gates import HFAB
from esr.models.reparam import algebra
from esr.models.reparam.algebra import Kernel


class NormedHFAB(HFAB):
    """`HFAB` with BatchNorm on its input, on the stack's result and on the mask.

    Args:
        width: channels of the input and the output.
        mid: channels of the stack.
        stack: module from (N, mid, H, W) to the same shape.
    """

    def __init__(self, width: int, mid: int, stack: nn.Module):
        super().__init__(width, mid, stack)
        self.norm_in = nn.BatchNorm2d(width)
        self.norm_mid = nn.BatchNorm2d(mid)
        self.norm_out = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
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
        with torch.no_grad():
            squeeze = algebra.after_norm(exact.norm_in, algebra.of_conv(exact.squeeze))
            excite = algebra.after_norm(exact.norm_mid, algebra.of_conv(exact.excite))
            _fill(plain.squeeze, squeeze)
            _fill(plain.excite, algebra.then_norm(excite, exact.norm_out))
        return plain

    @torch.no_grad()
    def neutralise(self) -> None:
        """Make the BatchNorms pass everything through in eval mode, for plain weights to follow."""
        for norm in (self.norm_in, self.norm_mid, self.norm_out):
            norm.reset_parameters()
            norm.weight.fill_(math.sqrt(1 + norm.eps))


def _normed_conv(x: torch.Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> torch.Tensor:
    padded = algebra.pad_with(norm(x), algebra.affine(norm)[1], (1, 1))
    return F.conv2d(padded, conv.weight, conv.bias)


def _fill(conv: nn.Conv2d, kernel: Kernel) -> None:
    conv.weight.copy_(kernel.weight)
    if conv.bias is not None and kernel.bias is not None:
        conv.bias.copy_(kernel.bias)
