"""The two outlines of nearly every efficient network: blocks in series, or their outputs fused."""

from collections.abc import Iterable

import torch
from torch import nn

from esr.models.arguments import Activation, ConvFactory
from esr.models.network import Network
from esr.models.parts.layers import leaky_relu, pixel_shuffle_tail


class SeriesTrunk(Network):
    """head, blocks in series, a 3x3 convolution, the long skip from the head, tail.

    Args:
        scale: see `Network`.
        data_range: see `Network`.
        width: channels of the head's output and between the blocks.
        blocks: modules from (N, width, H, W) to the same shape.
        conv: makes the head and the 3x3 convolution before the skip (`trunk`).
        tail: module from (N, width, H, W) to the image; a pixel shuffle by default.
        in_channels: channels of the head's input; `body` of a subclass makes them if not 3.
    """

    def __init__(
        self,
        scale: int,
        data_range: float,
        width: int,
        blocks: Iterable[nn.Module],
        conv: ConvFactory = nn.Conv2d,
        tail: nn.Module | None = None,
        in_channels: int = 3,
    ):
        super().__init__(scale, data_range)
        self.head = conv(in_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.trunk = conv(width, width, 3, padding=1)
        self.tail = tail if tail is not None else pixel_shuffle_tail(width, scale)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the blocks make of the head's output."""
        for block in self.blocks:
            x = block(x)
        return x

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        head = self.head(x)
        return self.tail(self.trunk(self.features(head)) + head)


class FusionTrunk(SeriesTrunk):
    """A `SeriesTrunk` in which a 1x1 convolution joins the outputs of all blocks, as in RFDN.

    Its one argument more, `act`, makes the activation after the fusion.
    """

    def __init__(
        self,
        scale: int,
        data_range: float,
        width: int,
        blocks: Iterable[nn.Module],
        act: Activation = leaky_relu,
        conv: ConvFactory = nn.Conv2d,
        tail: nn.Module | None = None,
        in_channels: int = 3,
    ):
        super().__init__(scale, data_range, width, blocks, conv, tail, in_channels)
        self.fuse = nn.Conv2d(len(self.blocks) * width, width, 1)
        self.act = act()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The fused outputs of all blocks."""
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return self.act(self.fuse(torch.cat(outputs, dim=1)))
