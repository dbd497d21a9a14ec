"""BSRN: blueprint separable residual network (team XPixel, first in complexity of NTIRE 2022).

Li et al., CVPR 2022 workshops. RFDN of blueprint separable convolutions; the entry (BSRN-S) has
a learnt weight per channel where the paper has contrast-aware channel attention.
"""

import torch
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.distillation import RFDB
from esr.models.parts.gates import ContextGate, PooledContext
from esr.models.parts.layers import BSConv, PointwiseGELU, PointwiseLinear


class BSDB(RFDB):
    """An RFDB of separable convolutions, then a weight per channel, a 1x1 convolution, a skip."""

    def __init__(self, width: Channels, distilled: Channels, esa_width: Channels):
        context = PooledContext(esa_width, conv=BSConv, act=PointwiseGELU)
        attention = ContextGate(width, esa_width, context, pointwise=PointwiseLinear)
        super().__init__(
            width, distilled, attention, act=PointwiseGELU, conv=BSConv, pointwise=PointwiseLinear
        )
        self.channel_weight = nn.Parameter(torch.ones(1, width))
        self.out = PointwiseLinear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(super().forward(x) * self.channel_weight[..., None, None]) + x


class BSRN(FusionTrunk):
    """Separable RFDBs, their outputs fused; the image enters four times side by side."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 48,
        depth: Depth = 5,
        distilled: Channels = 24,  # kept at each stage of a block
        esa_width: Channels = 12,  # inside the attention
    ):
        blocks = (BSDB(width, distilled, esa_width) for _ in range(depth))
        super().__init__(
            scale, data_range, width, blocks, act=PointwiseGELU, conv=BSConv, in_channels=12
        )
        self.fuse = PointwiseLinear(depth * width, width)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return super().body(x.repeat(1, 4, 1, 1))
