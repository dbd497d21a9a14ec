"""FMEN: fast and memory-efficient network (team NJU_Jet, second of NTIRE 2022).

Du et al., CVPR 2022 workshops. Pairs of 3x3 convolutions without a skip (it is merged into them),
each followed by a high-frequency attention block. The authors' training form is `conv=rrrb
model.batch_norm=true`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import ConvFactory
from esr.models.outlines import SeriesTrunk
from esr.models.parts.gates import HFAB
from esr.models.reparam.attention import NormedHFAB


class ConvPair(nn.Module):
    """Two 3x3 convolutions, a leaky ReLU of slope 0.1 between them (functional, see `HFAB`)."""

    def __init__(self, width: int, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        return self.second(F.leaky_relu(self.first(x), 0.1, inplace=True))


class FMEN(SeriesTrunk):
    """A warm-up of one convolution and a deeper attention, then convolution pairs with attention.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks after the warm-up.
        mid: channels inside the attention of the blocks.
        warmup_mid: channels inside the attention of the warm-up.
        warmup_pairs: convolution pairs inside the attention of the warm-up.
        conv: makes the 3x3 convolutions of the pairs.
        batch_norm: train with BatchNorm in the attention; it merges away.
    """

    training_arguments = ("conv", "batch_norm")

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 255.0,
        width: int = 50,
        depth: int = 4,
        mid: int = 16,
        warmup_mid: int = 12,
        warmup_pairs: int = 2,
        conv: ConvFactory = nn.Conv2d,
        batch_norm: bool = False,
    ):
        gate = NormedHFAB if batch_norm else HFAB

        def attention(mid: int, pairs: int) -> HFAB:
            return gate(width, mid, nn.Sequential(*(ConvPair(mid, conv) for _ in range(pairs))))

        warmup = (nn.Conv2d(width, width, 3, padding=1), attention(warmup_mid, warmup_pairs))
        blocks = [nn.Sequential(*warmup)] + [
            nn.Sequential(ConvPair(width, conv), attention(mid, 1)) for _ in range(depth)
        ]
        super().__init__(scale, data_range, width, blocks)
