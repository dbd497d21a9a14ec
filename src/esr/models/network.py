"""What every network here shares: its scale, its value range and the smallest input it can take.

Images are RGB in [0, 1] on both sides of every network. Many published weights were trained on
0..255; such a network multiplies inside (`data_range=255`), so that no caller ever has to know.

Unless a module says otherwise, its `forward` maps (N, C, H, W) to the same shape.
"""

import torch
from torch import nn

from esr.errors import UserError
from esr.models.arguments import DataRange, Scale


class Network(nn.Module):
    """Base of the super-resolution networks; a subclass defines `body`."""

    min_size: int = 1
    """Smallest height and width of an input in pixels; in an outline the largest of its parts'."""

    def __init__(self, scale: Scale = 4, data_range: DataRange = 1.0):
        super().__init__()
        self.scale = scale
        self.data_range = data_range

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) to (N, 3, scale*H, scale*W), both within 0..data_range."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Super-resolve `x`, RGB (N, 3, H, W) in [0, 1]; the output is not clamped.

        Raises:
            UserError: the image is smaller than `min_size`.
        """
        height, width = x.shape[-2:]
        if min(height, width) < self.min_size:
            raise UserError(
                f"{type(self).__name__} needs images of at least {self.min_size}x{self.min_size} "
                f"pixels, got {width}x{height}"
            )
        if self.data_range == 1.0:
            return self.body(x)
        return self.body(x * self.data_range) / self.data_range
