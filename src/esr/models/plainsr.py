"""PlainSR: a VGG-style stack with one long skip, the simplest net to re-parameterise (RepVGG).

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021, carried over to
super-resolution: every 3x3 convolution but the tail's may be a block while training. With
`conv=repvgg` type `model.conv.batch_norm=false` unless BatchNorm is wanted.
"""

import torch
from torch import nn

from esr.models.network import ConvFactory
from esr.models.trunks import SeriesTrunk


class PlainBlock(nn.Module):
    """A 3x3 convolution and a ReLU.

    Args:
        width: channels of the input and the output.
        conv: makes the convolution.
    """

    def __init__(self, width: int, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.conv = conv(width, width, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        return self.act(self.conv(x))


class PlainSR(SeriesTrunk):
    """head, convolutions in series, one more before the long skip, tail.

    Args:
        scale: see `Network`.
        data_range: see `Network`.
        width: channels of all convolutions.
        depth: convolutions with a ReLU.
        conv: makes all 3x3 convolutions but the tail's.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 48,
        depth: int = 8,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (PlainBlock(width, conv) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks, conv)
