"""The residual feature distillation block (RFDB).

RFDN, Liu et al., ECCV 2020 workshops (winner of AIM 2020 Efficient SR).
"""

from collections.abc import Sequence

import torch
from torch import nn

from esr.models.layers import Activation, leaky_relu
from esr.models.network import ConvFactory


class RFDB(nn.Module):
    """Distil a few channels before each 3x3 stage, concatenate what was distilled, gate it.

    There is no skip around the block: the identity lies inside each stage (`residual`). Entries
    that merged it into the kernels after training have `residual=False`.

    Args:
        width: channels of the input and the output.
        distilled: channels kept at each stage.
        attention: gate on the output, (N, width, H, W) to the same shape.
        dilations: dilation of each 3x3 stage; their number is the number of stages.
        residual: add each stage's input to its convolution before the activation.
        act: makes the activation.
        conv: makes the 3x3 convolutions.
        pointwise: makes the 1x1 convolutions.
    """

    def __init__(
        self,
        width: int,
        distilled: int,
        attention: nn.Module,
        dilations: Sequence[int] = (1, 1, 1),
        residual: bool = True,
        act: Activation = leaky_relu,
        conv: ConvFactory = nn.Conv2d,
        pointwise: ConvFactory = nn.Conv2d,
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = []
        for distill, refine in zip(self.distill, self.refine, strict=True):
            kept.append(self.act(distill(x)))
            x = self.act(refine(x) + x if self.residual else refine(x))
        kept.append(self.act(self.last(x)))
        return self.attention(self.fuse(torch.cat(kept, dim=1)))
