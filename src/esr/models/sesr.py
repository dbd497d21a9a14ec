"""SESR: super-efficient super-resolution by collapsible linear blocks (MLSys 2022).

Bhardwaj et al. Deployed it is a 5x5, `depth` 3x3s and a 5x5, with PReLUs and two long skips; the
short skips disappear into the kernels. Train it with `conv=collapsible`, which leaves the skip out
where the shapes differ. The paper works on the luminance alone, here the three colours go through.
"""

import torch
from torch import nn

from esr.models.network import ConvFactory, Network


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
