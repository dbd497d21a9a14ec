"""RLCSR, team IMGWLH (NTIRE 2022): weight-normed RFDBs, a lateral chain and asymmetric sums.

The official file holds six modules that the network never uses; the published counts include them.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.network import Network
from esr.models.parts.distillation import RFDB
from esr.models.parts.gates import ChannelMask, ContextGate, PooledContext, SpatialMask
from esr.models.parts.layers import normed_conv, resize


class AsymmetricConv(nn.Module):
    """The sum of a 1x3, a 3x1 and a 3x3 convolution (ACNet, Ding et al., ICCV 2019), unmerged."""

    def __init__(self, inputs: Channels, outputs: Channels, bias: bool = False):
        super().__init__()
        self.row = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1), bias=bias)
        self.column = nn.Conv2d(inputs, outputs, (3, 1), padding=(1, 0), bias=bias)
        self.square = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.row(x) + self.column(x) + self.square(x)


class ResidualContext(nn.Module):
    """`PooledContext` under weight normalisation, with SiLU and a skip around every convolution."""

    def __init__(self, width: Channels):
        super().__init__()
        self.down = normed_conv(width, width, 3, stride=2)
        self.convs = nn.ModuleList(normed_conv(width, width, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.down(x), kernel_size=7, stride=3)
        for conv in self.convs[:-1]:
            x = F.silu(conv(x)) + x
        return self.convs[-1](x) + x


class RLCSR(Network):
    """Distillation blocks whose outputs are fused twice, all at once and one after the other."""

    min_size = PooledContext.min_size

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 32,  # even
        depth: Depth = 6,
        kept: Channels = 16,  # at each stage of a block
        esa_width: Channels = 8,  # inside the blocks' attention
        mask_width: Channels = 10,  # inside the channel mask
    ):
        super().__init__(scale, data_range)

        def block() -> RFDB:
            context = ResidualContext(esa_width)
            attention = ContextGate(width, esa_width, context, pointwise=normed_conv)
            # The team's function calls it "silu", but what the weights were trained with is SELU.
            return RFDB(
                width, kept, attention, act=nn.SELU, conv=normed_conv, pointwise=normed_conv
            )

        self.head = AsymmetricConv(3, width)
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.fuse = nn.Conv2d(depth * width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.fused = AsymmetricConv(width, width)
        self.shuffle = nn.ChannelShuffle(2)
        self.join = nn.ModuleList(normed_conv(2 * width, width, 1) for _ in range(depth - 1))
        self.channel = ChannelMask(2 * width, mask_width)
        self.spatial = SpatialMask(bias=False)
        self.trunk = AsymmetricConv(2 * width, width)
        self.tail = nn.Sequential(
            AsymmetricConv(width, 3 * scale**2, bias=True), nn.PixelShuffle(scale)
        )
        self.act = nn.SELU()

    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = self.blocks[0](self.head(x))
        lateral, outputs = y, [y]
        for block, join in zip(self.blocks[1:], self.join, strict=True):
            y = block(y) + y
            lateral = join(self.shuffle(torch.cat((lateral, y), dim=1)))
            outputs.append(y)
        # Layer attention over a single layer is the identity, which leaves a factor 1 + gamma.
        fused = self.act(self.fuse(torch.cat(outputs, dim=1))) * (1 + self.gamma)
        y = torch.cat((self.fused(fused), lateral), dim=1)
        y = y * self.channel(y) * self.spatial(y)  # both masks from the same features, unlike CBAM
        return self.tail(self.trunk(y)) + resize(x, self.scale, "bicubic")
