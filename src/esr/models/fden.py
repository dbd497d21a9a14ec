"""FDEN, team NJU_MCG (NTIRE 2022): wide pointwise stages, attention on a Laplacian pyramid."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.distillation import DistillationBlock
from esr.models.parts.layers import leaky_relu


def enlarge(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinearly to the height and width of `like`."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


class LaplacianAttention(nn.Module):
    """A mask from the differences between the levels of a pyramid; the finest one is kept, too."""

    min_size = 8

    def __init__(self, channels: Channels, width: Channels):  # of the pyramid
        super().__init__()
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.excite = nn.Conv2d(3 * width, channels, 1)
        self.join = nn.Conv2d(channels + width, channels, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        level = self.act(self.squeeze(x))
        details = []
        for conv in self.down:
            coarser = self.act(conv(F.max_pool2d(level, 2)))
            details.append(level - enlarge(coarser, level))
            level = coarser
        finest = details[0]
        mask = self.excite(torch.cat([enlarge(detail, x) for detail in details], dim=1)).sigmoid()
        return self.join(torch.cat((x * mask, finest), dim=1))


class FDEB(DistillationBlock):
    """Distil channels before each wide pointwise stage; no activation after the stages' skips."""

    def __init__(self, width: Channels, kept: Channels, expansion: int, attention_width: Channels):
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

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        return self.refine[i](x) + x

    def end(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x)


class FDEN(FusionTrunk):
    """Feature distillation blocks, their outputs fused."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 29,
        depth: Depth = 4,
        kept: Channels = 14,  # before each stage of a block
        expansion: int = 5,  # channels inside a stage per channel
        attention_width: Channels = 7,  # of the attention's pyramid
    ):
        blocks = (FDEB(width, kept, expansion, attention_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
