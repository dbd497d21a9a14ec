"""PAN: pixel attention network (Zhao et al., ECCV 2020 workshops), 272 K parameters at x4.

Sixteen self-calibrated blocks with pixel attention; nearest-neighbour enlargement in steps, each
followed by attention; the bilinear enlargement of the input is added at the end.
"""

import torch
from torch import nn

from esr.models.gates import PixelAttention
from esr.models.network import Network
from esr.models.scet import SCPA
from esr.models.upsampling import resize, steps


class PAN(Network):
    """Self-calibrated blocks, then upsampling by interpolation and attention.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels of the blocks.
        up_width: channels after the first enlargement.
        depth: blocks.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 40,
        up_width: int = 24,
        depth: int = 16,
    ):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(SCPA(width) for _ in range(depth))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        inputs = [width] + [up_width] * (len(steps(scale)) - 1)
        self.enlarge = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=step, mode="nearest"),
                nn.Conv2d(n_in, up_width, 3, padding=1),
                PixelAttention(up_width),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(up_width, up_width, 3, padding=1),
                nn.LeakyReLU(0.2, inplace=True),
            )
            for n_in, step in zip(inputs, steps(scale), strict=True)
        )
        self.tail = nn.Conv2d(up_width, 3, 3, padding=1)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        head = self.head(x)
        y = head
        for block in self.blocks:
            y = block(y)
        y = self.trunk(y) + head
        for part in self.enlarge:
            y = part(y)
        return self.tail(y) + resize(x, self.scale, "bilinear")
