"""Distillation as in RFDN's block and its descendants, as one loop."""

import torch
from torch import nn


class DistillationBlock(nn.Module):
    """Keep a few channels before each stage, refine the rest; fuse and gate what was kept.

    A variant makes the parts, and says which `stage` or which `end` is its own.
    """

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
