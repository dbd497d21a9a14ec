"""FasterRFDN (team TOVBU, NTIRE 2022): RFDN whose stages refine what was distilled."""

from collections.abc import Sequence

import torch
from torch import nn

from esr.models.esa import ESA
from esr.models.layers import leaky_relu
from esr.models.trunks import FusionTrunk


class FasterRFDB(nn.Module):
    """Residual 3x3 stages of shrinking width.

    The first distilled part stands aside; every later one is itself what the next stage refines.

    Args:
        width: channels of the input and the output.
        distilled: channels kept at each stage.
        esa_width: channels inside the attention.
    """

    def __init__(self, width: int, distilled: Sequence[int], esa_width: int):
        super().__init__()
        inputs = [width, width, *distilled[1:-1]]
        stages = [width, *distilled[1:]]
        self.distill = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 1) for n_in, n_out in zip(inputs, distilled, strict=True)
        )
        self.refine = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1) for n in stages)
        self.last = nn.Conv2d(stages[-1], stages[-1], 3, padding=1)
        self.fuse = nn.Conv2d(sum(distilled) + stages[-1], width, 1)
        self.attention = ESA(width, esa_width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = []
        for stage, (distill, refine) in enumerate(zip(self.distill, self.refine, strict=True)):
            kept.append(self.act(distill(x)))
            x = kept[-1] if stage else x
            x = self.act(refine(x) + x)
        kept.append(self.act(self.last(x) + x))
        return self.attention(self.fuse(torch.cat(kept, dim=1)))


class FasterRFDN(FusionTrunk):
    """FasterRFDBs, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels between the blocks.
        depth: blocks.
        distilled: channels kept at each stage of a block.
        esa_width: channels inside the attention.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 64,
        depth: int = 4,
        distilled: Sequence[int] = (32, 32, 16),
        esa_width: int = 16,
    ):
        blocks = (FasterRFDB(width, distilled, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
