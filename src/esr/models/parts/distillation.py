"""The distillation block of RFDN (Liu et al., ECCV 2020 workshops) and of its descendants."""

from collections.abc import Sequence

import torch
from torch import nn

from esr.models.arguments import Activation, Channels, ConvFactory
from esr.models.parts.layers import leaky_relu


class DistillationBlock(nn.Module):
    """Keep a few channels before each stage, refine the rest; fuse and gate what was kept."""

    # A variant makes the parts, and says which `stage` or which `end` is its own.
    distill: nn.ModuleList  # before each stage, to the channels that are kept
    refine: nn.ModuleList  # in each stage
    last: nn.Module
    fuse: nn.Module
    attention: nn.Module
    act: nn.Module

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        """What the next stage sees; the last of `kept` was distilled from `x`."""
        return self.act(self.refine[i](x) + x)

    def end(self, x: torch.Tensor) -> torch.Tensor:
        """What is kept of the last stage."""
        return self.act(self.last(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        for i, distill in enumerate(self.distill):
            kept.append(self.act(distill(x)))
            x = self.stage(i, x, kept)
        return self.attention(self.fuse(torch.cat((*kept, self.end(x)), dim=1)))


class RFDB(DistillationBlock):
    """Distil a few channels before each 3x3 stage, concatenate what was distilled, gate it.

    There is no skip around the block: the identity lies inside each stage (`residual`). Entries
    that merged it into the kernels after training have `residual=False`.
    """

    def __init__(
        self,
        width: Channels,
        distilled: Channels,  # kept at each stage
        attention: nn.Module,
        dilations: Sequence[int] = (1, 1, 1),  # of the 3x3 stages, one per number
        residual: bool = True,  # add each stage's input to its convolution, before the activation
        act: Activation = leaky_relu,
        conv: ConvFactory = nn.Conv2d,  # 3x3
        pointwise: ConvFactory = nn.Conv2d,  # 1x1
    ):
        super().__init__()
        self.residual = residual
        self.distill = nn.ModuleList(pointwise(width, distilled, 1) for _ in dilations)
        self.refine = nn.ModuleList(
            # Not every re-parameterised block knows `dilation`, so the usual 1 is not spelled out.
            conv(width, width, 3, padding=1)
            if d == 1
            else conv(width, width, 3, padding=d, dilation=d)
            for d in dilations
        )
        self.last = conv(width, distilled, 3, padding=1)
        self.fuse = pointwise((len(dilations) + 1) * distilled, width, 1)
        self.attention = attention
        self.act = act()

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        return super().stage(i, x, kept) if self.residual else self.act(self.refine[i](x))
