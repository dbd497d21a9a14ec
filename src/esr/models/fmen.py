"""FMEN: fast and memory-efficient network (team NJU_Jet, second of NTIRE 2022).

Du et al., CVPR 2022 workshops. Pairs of 3x3 convolutions without a skip (it is merged into them),
each followed by a high-frequency attention block. The authors' training form is `conv=rrrb
model.batch_norm=true`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Scale
from esr.models.outlines import SeriesTrunk
from esr.models.parts.gates import HFAB
from esr.models.reparam.attention import NormedHFAB


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
