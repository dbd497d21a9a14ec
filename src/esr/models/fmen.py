"""FMEN: fast and memory-efficient network (team NJU_Jet, second of NTIRE 2022).

Du et al., CVPR 2022 workshops. Pairs of 3x3 convolutions without a skip (it is merged into them),
each followed by a high-frequency attention block. The authors' training form is `conv=rrrb
model.batch_norm=true`: BatchNorms that merge into the convolutions around them bring the image's
statistics into the mask and keep the sigmoid away from saturation.
"""

import copy
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Scale
from esr.models.outlines import SeriesTrunk
from esr.models.parts.gates import HFAB
from esr.models.reparam import algebra


class NormedHFAB(HFAB):
    """`HFAB` as it is trained: BatchNorm on its input, on the stack's result and on the mask.

    The two that precede a convolution would differ from it at the border when merged, so their maps
    are padded with what they make of zero.
    """

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


class ConvPair(nn.Module):
    """Two 3x3 convolutions, a leaky ReLU of slope 0.1 between them (functional, see `HFAB`)."""

    def __init__(self, width: Channels, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.leaky_relu(self.first(x), 0.1, inplace=True))


class FMEN(SeriesTrunk):
    """A warm-up of one convolution and a deeper attention, then pairs with attention in series."""

    training_arguments = ("conv", "batch_norm")

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 255.0,
        width: Channels = 50,
        depth: Depth = 4,  # after the warm-up
        mid: Channels = 16,  # inside the attention of the blocks
        warmup_mid: Channels = 12,  # inside the attention of the warm-up
        warmup_pairs: Depth = 2,  # inside the attention of the warm-up
        conv: ConvFactory = nn.Conv2d,  # of the pairs' 3x3 convolutions
        batch_norm: bool = False,  # train with BatchNorm in the attention; it merges away
    ):
        gate = NormedHFAB if batch_norm else HFAB

        def attention(mid: int, pairs: int) -> HFAB:
            return gate(width, mid, nn.Sequential(*(ConvPair(mid, conv) for _ in range(pairs))))

        warmup = (nn.Conv2d(width, width, 3, padding=1), attention(warmup_mid, warmup_pairs))
        blocks = [nn.Sequential(*warmup)] + [
            nn.Sequential(ConvPair(width, conv), attention(mid, 1)) for _ in range(depth)
        ]
        super().__init__(scale, data_range, width, blocks)
