"""The outlines of nearly every efficient network: blocks in series, or their outputs fused."""

from collections.abc import Iterable

import torch
from torch import nn

from esr.models.arguments import Activation, Channels, ConvFactory, DataRange, Scale
from esr.models.network import Network
from esr.models.parts.layers import in_turn, leaky_relu, pixel_shuffle_tail


class Blocks(Network):
    """head and blocks in series; what follows and the `body` are the subclass's."""

    def __init__(
        self,
        scale: Scale,
        data_range: DataRange,
        width: Channels,
        blocks: Iterable[nn.Module],
        conv: ConvFactory = nn.Conv2d,  # of the head
        in_channels: Channels = 3,  # of the head; `body` of a subclass makes them if not 3
    ):
        super().__init__(scale, data_range)
        self.head = conv(in_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.min_size = max(getattr(part, "min_size", 1) for part in self.modules())

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the blocks make of the head's output."""
        for block in self.blocks:
            x = block(x)
        return x


class SeriesTrunk(Blocks):
    """head, blocks in series, a 3x3 convolution, the long skip from the head, tail."""

    def __init__(
        self,
        scale: Scale,
        data_range: DataRange,
        width: Channels,
        blocks: Iterable[nn.Module],
        conv: ConvFactory = nn.Conv2d,  # of the head and of the convolution before the skip
        tail: nn.Module | None = None,  # from features to the image, by default a pixel shuffle
        in_channels: Channels = 3,
    ):
        super().__init__(scale, data_range, width, blocks, conv, in_channels)
        self.trunk = conv(width, width, 3, padding=1)
        self.tail = tail if tail is not None else pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        return self.tail(self.trunk(self.features(head)) + head)


class FusionTrunk(SeriesTrunk):
    """A `SeriesTrunk` in which a 1x1 convolution joins the outputs of all blocks, as in RFDN."""

    def __init__(
        self,
        scale: Scale,
        data_range: DataRange,
        width: Channels,
        blocks: Iterable[nn.Module],
        act: Activation = leaky_relu,  # after the fusion
        conv: ConvFactory = nn.Conv2d,
        tail: nn.Module | None = None,
        in_channels: Channels = 3,
    ):
        super().__init__(scale, data_range, width, blocks, conv, tail, in_channels)
        self.fuse = nn.Conv2d(len(self.blocks) * width, width, 1)
        self.act = act()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.fuse(torch.cat(in_turn(self.blocks, x), dim=1)))
