"""BSRN: blueprint separable residual network (team XPixel, first in complexity of NTIRE 2022).

Li et al., CVPR 2022 workshops. RFDN of blueprint separable convolutions; the entry (BSRN-S) has
a learnt weight per channel where the paper has contrast-aware channel attention.
"""

import torch
from torch import nn

from esr.models.outlines import FusionTrunk
from esr.models.parts.gates import ESA, ContextGate, PooledContext
from esr.models.parts.layers import BSConv, PointwiseGELU, PointwiseLinear
from esr.models.rfdn import RFDB


class BSDB(RFDB):
    """An RFDB of separable convolutions, then a weight per channel, a 1x1 convolution, a skip.

    Args:
        width: channels of the input and the output.
        distilled: channels kept at each stage.
        esa_width: channels inside the attention.
    """

    def __init__(self, width: int, distilled: int, esa_width: int):
        context = PooledContext(esa_width, conv=BSConv, act=PointwiseGELU)
        attention = ContextGate(width, esa_width, context, pointwise=PointwiseLinear)
        super().__init__(
            width, distilled, attention, act=PointwiseGELU, conv=BSConv, pointwise=PointwiseLinear
        )
        self.channel_weight = nn.Parameter(torch.ones(1, width))
        self.out = PointwiseLinear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        return self.out(super().forward(x) * self.channel_weight[..., None, None]) + x


class BSRN(FusionTrunk):
    """Separable RFDBs, their outputs fused; the image enters four times side by side.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        distilled: channels kept at each stage of a block.
        esa_width: channels inside the attention.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 48,
        depth: int = 5,
        distilled: int = 24,
        esa_width: int = 12,
    ):
        blocks = (BSDB(width, distilled, esa_width) for _ in range(depth))
        super().__init__(
            scale, data_range, width, blocks, act=PointwiseGELU, conv=BSConv, in_channels=4 * 3
        )
        self.fuse = PointwiseLinear(depth * width, width)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        return super().body(x.repeat(1, 4, 1, 1))
