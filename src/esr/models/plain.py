"""PlainSR: a VGG-style stack with one long skip, the simplest net to re-parameterise (RepVGG).

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021, carried over to
super-resolution: every 3x3 convolution but the tail's may be a block while training. With
`conv=repvgg` type `model.conv.batch_norm=false` unless BatchNorm is wanted.
"""

import torch
from torch import nn

from esr.models.arguments import ConvFactory
from esr.models.network import Network
from esr.models.outlines import SeriesTrunk
from esr.models.parts.layers import MeanShift, ShuffleSteps


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


# ECBSR: a plain stack of 3x3 convolutions, trained as edge-oriented blocks (ACM MM 2021).
#
# Zhang, Zeng, Zhang: "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile
# Devices". Deployed it is nothing but convolutions and PReLUs; train it with `conv=ecb`. The paper
# works on the luminance alone; here the three colours go through, so the head and the tail have three
# times the paper's channels. The input joins the output as its nearest-neighbour enlargement.


class ECBSR(Network):
    """head, `depth` convolutions, tail, each of the first ones with PReLU, plus the input.

    Args:
        scale: see `Network`.
        data_range: see `Network`; the authors train on 0..255.
        width: channels between the convolutions (the number after C in M4C16).
        depth: convolutions between head and tail (the number after M).
        conv: makes all convolutions; the paper's training form is `reparam.ecb.ECB`.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 16,
        depth: int = 4,
        conv: ConvFactory = nn.Conv2d,
    ):
        super().__init__(scale, data_range)
        self.head = nn.Sequential(conv(3, width, 3, padding=1), nn.PReLU(width))
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, width, 3, padding=1), nn.PReLU(width)) for _ in range(depth)
        )
        self.tail = conv(width, 3 * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        y = self.head(x)
        for block in self.blocks:
            y = block(y)
        return self.shuffle(self.tail(y) + x.repeat_interleave(self.scale**2, dim=1))


# SESR: super-efficient super-resolution by collapsible linear blocks (MLSys 2022).
#
# Bhardwaj et al. Deployed it is a 5x5, `depth` 3x3s and a 5x5, with PReLUs and two long skips; the
# short skips disappear into the kernels. Train it with `conv=collapsible`, which leaves the skip out
# where the shapes differ. The paper works on the luminance alone, here the three colours go through.


class SESR(Network):
    """head (5x5), 3x3 convolutions, a skip from the head, tail (5x5), plus the input.

    Args:
        scale: see `Network`.
        data_range: see `Network`.
        width: channels between the convolutions; the paper's 16, and 32 for XL.
        depth: 3x3 convolutions; the paper's M3 to M11.
        conv: makes all convolutions; the paper's form is `reparam.collapsible.CollapsibleLinear`.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 16,
        depth: int = 5,
        conv: ConvFactory = nn.Conv2d,
    ):
        super().__init__(scale, data_range)
        self.head = nn.Sequential(conv(3, width, 5, padding=2), nn.PReLU(width))
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, width, 3, padding=1), nn.PReLU(width)) for _ in range(depth)
        )
        self.tail = conv(width, 3 * scale**2, 5, padding=2)
        self.shuffle = nn.PixelShuffle(scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        head = self.head(x)
        y = head
        for block in self.blocks:
            y = block(y)
        return self.shuffle(self.tail(y + head) + x.repeat_interleave(self.scale**2, dim=1))


# EDSR-baseline: residual blocks without normalisation, the field's common measure.
#
# Lim et al., CVPR 2017 workshops: 16 blocks of 64 channels, winner of NTIRE 2017. The authors'
# weights work on 0..255 around DIV2K's mean colour.


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
