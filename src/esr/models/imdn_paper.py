"""IMDN as in the paper (Hui et al., ACM Multimedia 2019): attention and fusion of all blocks.

The challenges' baseline, `esr.models.imdn`, has neither.
"""

import torch
from torch import nn

from esr.models.imdn import IMDB
from esr.models.network import ConvFactory
from esr.models.trunks import FusionTrunk


class ContrastAttention(nn.Module):
    """Channel attention from the sum of a channel's mean and its standard deviation.

    Args:
        width: channels.
        reduction: by which the two-layer network narrows.
    """

    def __init__(self, width: int, reduction: int = 16):
        super().__init__()
        self.weights = nn.Sequential(
            nn.Conv2d(width, width // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        # The slope of a square root at zero is infinite; the shift is far below float32's noise.
        return x * self.weights((variance + 1e-12).sqrt() + mean)


class IMDNPaper(FusionTrunk):
    """Multi-distillation blocks with contrast-aware attention, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, a multiple of 16.
        depth: blocks.
        conv: makes the 3x3 convolutions of the blocks.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 64,
        depth: int = 6,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = [IMDB(width, (width, width, width, width // 4), conv=conv) for _ in range(depth)]
        for block in blocks:
            fuse = nn.Sequential(ContrastAttention(width), block.fuse)
            block.fuse = fuse  # pyright: ignore[reportAttributeAccessIssue]
        super().__init__(scale, data_range, width, blocks)
