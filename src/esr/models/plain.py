"""Networks of convolutions and activations alone: PlainSR, ECBSR, SESR, EDSR.

The first three are trained with another `conv` than they are deployed with: their 3x3
convolutions may be re-parameterised blocks while training.
"""

from collections import OrderedDict

import torch
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Scale
from esr.models.network import Network
from esr.models.outlines import SeriesTrunk
from esr.models.parts.layers import MeanShift, ShuffleSteps


class PlainSR(SeriesTrunk):
    """A VGG-style stack with one long skip, the simplest net to re-parameterise (RepVGG).

    Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021, carried over to
    super-resolution. With `conv=repvgg` type `model.conv.batch_norm=false` unless BatchNorm is
    wanted.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 48,
        depth: Depth = 8,
        conv: ConvFactory = nn.Conv2d,  # of all convolutions but the tail's
    ):
        def block() -> nn.Sequential:
            layer = conv(width, width, 3, padding=1)
            return nn.Sequential(OrderedDict(conv=layer, act=nn.ReLU(inplace=True)))

        super().__init__(scale, data_range, width, (block() for _ in range(depth)), conv)


class PReLUStack(Network):
    """ECBSR's and SESR's outline: head, 3x3 convolutions, tail, plus the input; PReLU in between.

    The kernels of head and tail are `ends` wide, and the input joins the output as its
    nearest-neighbour enlargement. The papers work on the luminance alone; here the three colours
    go through, so that the head and the tail have three times the papers' channels.
    """

    def __init__(
        self, scale: int, data_range: float, width: int, depth: int, conv: ConvFactory, ends: int
    ):
        super().__init__(scale, data_range)

        def layer(inputs: int, size: int) -> nn.Sequential:
            return nn.Sequential(conv(inputs, width, size, padding=size // 2), nn.PReLU(width))

        self.head = layer(3, ends)
        self.blocks = nn.Sequential(*(layer(width, 3) for _ in range(depth)))
        self.tail = conv(width, 3 * scale**2, ends, padding=ends // 2)
        self.shuffle = nn.PixelShuffle(scale)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the tail sees: (N, 3, H, W) -> (N, width, H, W)."""
        return self.blocks(self.head(x))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        nearest = x.repeat_interleave(self.scale**2, dim=1)
        return self.shuffle(self.tail(self.features(x)) + nearest)


class ECBSR(PReLUStack):
    """A plain stack trained as edge-oriented blocks, `conv=ecb` (ACM MM 2021).

    Zhang, Zeng, Zhang: "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile
    Devices". Deployed it is nothing but convolutions and PReLUs. The authors train on 0..255. In a
    name such as M4C16 M is the depth, C the width.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 16,
        depth: Depth = 4,  # convolutions between head and tail
        conv: ConvFactory = nn.Conv2d,  # of all convolutions
    ):
        super().__init__(scale, data_range, width, depth, conv, ends=3)


class SESR(PReLUStack):
    """Super-efficient super-resolution by collapsible linear blocks (Bhardwaj et al., MLSys 2022).

    Deployed it is a 5x5, `depth` 3x3s and a 5x5, with PReLUs and two long skips; the short skips
    disappear into the kernels. Train it with `conv=collapsible`, which leaves the skip out where
    the shapes differ.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 16,  # the paper's, and 32 for XL
        depth: Depth = 5,  # 3x3 convolutions; the paper's M3 to M11
        conv: ConvFactory = nn.Conv2d,  # of all convolutions
    ):
        super().__init__(scale, data_range, width, depth, conv, ends=5)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        return self.blocks(head) + head


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, added to the input."""

    def __init__(self, width: Channels, factor: float = 1.0, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.convs = nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(2))
        self.act = nn.ReLU(inplace=True)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.convs
        return x + self.factor * second(self.act(first(x)))


class EDSR(SeriesTrunk):
    """Residual blocks without normalisation; as EDSR-baseline the field's common measure.

    Lim et al., CVPR 2017 workshops: 16 blocks of 64 channels, winner of NTIRE 2017. The authors'
    weights work on 0..255 around DIV2K's mean colour.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 64,
        depth: Depth = 16,
        factor: float = 1.0,  # of the residuals; 0.1 keeps very wide networks stable
        conv: ConvFactory = nn.Conv2d,  # of the blocks
    ):
        blocks = (ResidualBlock(width, factor, conv) for _ in range(depth))
        tail = nn.Sequential(
            ShuffleSteps(width, scale, kernel_size=3), nn.Conv2d(width, 3, 3, padding=1)
        )
        super().__init__(scale, data_range, width, blocks, tail=tail)
        self.subtract, self.add = MeanShift(-data_range), MeanShift(data_range)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.add(super().body(self.subtract(x)))
