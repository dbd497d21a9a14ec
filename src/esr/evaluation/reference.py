"""Bicubic interpolation as a network: the baseline that stands beside every result."""

import torch

from esr.data.resize import resize
from esr.models.network import Network


class Bicubic(Network):
    """MATLAB's bicubic `imresize` of 8-bit images, bit for bit; nothing to train."""

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`; the input is rounded to 8 bits, as MATLAB's is."""
        levels = (x.clamp(0, 1) * 255).round().to(torch.uint8)
        return resize(levels, self.scale).to(x.dtype) / 255
