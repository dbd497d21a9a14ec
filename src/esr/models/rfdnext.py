"""RFDNeXt, team SSL (NTIRE 2022): RFDN with a ConvNeXt unit where its attention was."""

import torch
from torch import nn

from esr.models.layers import leaky_relu
from esr.models.trunks import FusionTrunk


class ConvNeXtUnit(nn.Module):
    """A depthwise 7x7 convolution, a wide pointwise pair and a skip (Liu et al., CVPR 2022).

    No norm, and LeakyReLU for GELU.

    Args:
        width: channels of the input and the output.
        expansion: channels between the pointwise convolutions per channel.
    """

    def __init__(self, width: int, expansion: int = 4):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.Conv2d(width, expansion * width, 1),
            leaky_relu(),
            nn.Conv2d(expansion * width, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        return self.convs(x) + x


class RFNeXtB(nn.Module):
    """A distillation block that narrows after its first stage and is linear up to the third.

    Args:
        width: channels of the input and the output.
        kept: channels kept at each stage, and of the later stages.
    """

    def __init__(self, width: int, kept: int):
        super().__init__()
        inputs = (width, kept, kept)
        self.distill = nn.ModuleList(nn.Conv2d(n, kept, 1) for n in inputs)
        self.refine = nn.ModuleList(nn.Conv2d(n, kept, 3, padding=1) for n in inputs)
        self.last = nn.Conv2d(kept, kept, 3, padding=1)
        self.fuse = nn.Conv2d(4 * kept, width, 1)
        self.unit = ConvNeXtUnit(width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = [self.distill[0](x)]
        # The first skip is from the distilled channels, as wide as the stage; then from its input.
        y = self.refine[0](x) + kept[0]
        for distill, refine in zip(self.distill[1:], self.refine[1:], strict=True):
            kept.append(distill(y))
            y = refine(y) + y
        kept.append(self.last(self.act(y)))
        return self.unit(self.fuse(self.act(torch.cat(kept, dim=1))))


class RFDNeXt(FusionTrunk):
    """Distillation blocks with a ConvNeXt unit each, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        kept: channels kept at each stage of a block.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 50,
        depth: int = 4,
        kept: int = 25,
    ):
        blocks = (RFNeXtB(width, kept) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
