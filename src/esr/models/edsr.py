"""EDSR-baseline: residual blocks without normalisation, the field's common measure.

Lim et al., CVPR 2017 workshops: 16 blocks of 64 channels, winner of NTIRE 2017. The authors'
weights work on 0..255 around DIV2K's mean colour.
"""

import torch
from torch import nn

from esr.models.mean_shift import MeanShift
from esr.models.network import ConvFactory
from esr.models.trunks import SeriesTrunk
from esr.models.upsampling import ShuffleSteps


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, added to the input.

    Args:
        width: channels.
        factor: of the residual before it is added; 0.1 keeps very wide networks stable.
        conv: makes the convolutions.
    """

    def __init__(self, width: int, factor: float = 1.0, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.convs = nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(2))
        self.act = nn.ReLU(inplace=True)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        first, second = self.convs
        return x + self.factor * second(self.act(first(x)))


class EDSR(SeriesTrunk):
    """Residual blocks in series around the mean colour.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        factor: see `ResidualBlock`.
        conv: makes the 3x3 convolutions of the blocks.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 64,
        depth: int = 16,
        factor: float = 1.0,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (ResidualBlock(width, factor, conv) for _ in range(depth))
        tail = nn.Sequential(
            ShuffleSteps(width, scale, kernel_size=3), nn.Conv2d(width, 3, 3, padding=1)
        )
        super().__init__(scale, data_range, width, blocks, tail=tail)
        self.subtract, self.add = MeanShift(-data_range), MeanShift(data_range)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        return self.add(super().body(self.subtract(x)))
