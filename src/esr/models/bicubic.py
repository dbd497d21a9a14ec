"""Bicubic interpolation as a network: the baseline that stands beside every result."""

import torch

from esr.data.resize import imresize_tensor
from esr.models.network import Network


class Bicubic(Network):
    """MATLAB's bicubic `imresize`, bit for bit on 8-bit images; nothing to train."""

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        return imresize_tensor(x, self.scale)
