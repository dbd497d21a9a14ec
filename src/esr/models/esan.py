"""ESAN (team Dragon, NTIRE 2022): residual blocks with ESA, the image upsampled beside them."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Scale
from esr.models.network import Network
from esr.models.parts.gates import ESA
from esr.models.parts.layers import pixel_shuffle_tail


class ESABlock(nn.Module):
    """Two 3x3 convolutions, ESA, a skip. The ReLU is functional: the challenge counts none."""

    def __init__(self, width: Channels, esa_width: Channels, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.first = conv(width, width, 3, padding=1)
        self.second = conv(width, width, 3, padding=1)
        self.attention = ESA(width, esa_width, skip=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(self.second(F.relu(self.first(x), inplace=True))) + x


class ESAN(Network):
    """Residual blocks in series; a convolution and a pixel shuffle of the image is added."""

    min_size = ESA.min_size

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 255.0,
        width: Channels = 32,
        depth: Depth = 16,
        esa_width: Channels = 8,  # inside the attention
        conv: ConvFactory = nn.Conv2d,  # of the blocks' 3x3 convolutions
    ):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ESABlock(width, esa_width, conv) for _ in range(depth)))
        self.tail = pixel_shuffle_tail(width, scale)
        self.skip = pixel_shuffle_tail(3, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.blocks(self.head(x))) + self.skip(x)
