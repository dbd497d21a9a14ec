"""ECBSR: a plain stack of 3x3 convolutions, trained as edge-oriented blocks (ACM MM 2021).

Zhang, Zeng, Zhang: "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile
Devices". Deployed it is nothing but convolutions and PReLUs; train it with `conv=ecb`. The paper
works on the luminance alone; here the three colours go through, so the head and the tail have three
times the paper's channels. The input joins the output as its nearest-neighbour enlargement.
"""

import torch
from torch import nn

from esr.models.network import ConvFactory, Network


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
