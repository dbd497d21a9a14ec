"""FDEN, team NJU_MCG (NTIRE 2022): wide pointwise stages, attention on a Laplacian pyramid."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.outlines import FusionTrunk
from esr.models.parts.layers import leaky_relu


def enlarge(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinearly to the height and width of `like`."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


class LaplacianAttention(nn.Module):
    """A mask from the differences between the levels of a pyramid; the finest one is kept, too.

    Args:
        channels: channels of the input and the output.
        width: channels of the pyramid.
    """

    min_size = 8

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.excite = nn.Conv2d(3 * width, channels, 1)
        self.join = nn.Conv2d(channels + width, channels, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W), at least 8x8 -> the same shape."""
        level = self.act(self.squeeze(x))
        details = []
        for conv in self.down:
            coarser = self.act(conv(F.max_pool2d(level, 2)))
            details.append(level - enlarge(coarser, level))
            level = coarser
        finest = details[0]
        mask = self.excite(torch.cat([enlarge(detail, x) for detail in details], dim=1)).sigmoid()
        return self.join(torch.cat((x * mask, finest), dim=1))


class FDEB(nn.Module):
    """Distil channels before each wide pointwise stage; no activation after the stages' skips.

    Args:
        width: channels of the input and the output.
        kept: channels kept before each stage.
        expansion: channels inside a stage per channel.
        attention_width: channels of the attention's pyramid.
    """

    def __init__(self, width: int, kept: int, expansion: int, attention_width: int):
        super().__init__()
        hidden = expansion * width
        self.distill = nn.ModuleList(nn.Conv2d(width, kept, 1, bias=False) for _ in range(3))
        self.refine = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, hidden, 1),
                leaky_relu(),
                nn.Conv2d(hidden, width, 1),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(3)
        )
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.fuse = nn.Conv2d(3 * kept + width, width, 1)
        self.attention = LaplacianAttention(width, attention_width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = []
        for distill, refine in zip(self.distill, self.refine, strict=True):
            kept.append(self.act(distill(x)))
            x = refine(x) + x
        return self.attention(self.fuse(torch.cat((*kept, self.last(x)), dim=1)))


class FDEN(FusionTrunk):
    """Feature distillation blocks, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        kept: channels kept before each stage of a block.
        expansion: channels inside a stage per channel.
        attention_width: channels of the attention's pyramid.
    """

    min_size = LaplacianAttention.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 29,
        depth: int = 4,
        kept: int = 14,
        expansion: int = 5,
        attention_width: int = 7,
    ):
        blocks = (FDEB(width, kept, expansion, attention_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
