"""EFDN: edge-enhanced feature distillation network (team NKU-ESR, NTIRE 2022).

Wang, CVPR 2022 workshops. The cells' convolutions are merged edge-enhanced blocks; the cells are
joined in pairs. Its output is clamped, and the last pair is cells 2 and 4, not 3 and 4.
"""

import torch
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Scale
from esr.models.network import Network
from esr.models.parts.gates import ESA
from esr.models.parts.layers import pixel_shuffle_tail


class EFDNCell(nn.Module):
    """A 1x1 and two 3x3 convolutions in a chain, half of each distilled; fusion, ESA, skip."""

    def __init__(self, width: Channels, esa_width: Channels, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        convs = [nn.Conv2d(width, width, 1), *(conv(width, width, 3, padding=1) for _ in "23")]
        self.convs = nn.ModuleList(convs)
        self.acts = nn.ModuleList(nn.PReLU(width) for _ in convs)
        self.distill = nn.ModuleList(nn.Conv2d(width, width // 2, 1) for _ in range(4))
        self.fuse = nn.Conv2d(4 * (width // 2), width, 1)
        self.attention = ESA(width, esa_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [x]
        for conv, act in zip(self.convs, self.acts, strict=True):
            outputs.append(act(conv(outputs[-1])))
        kept = [distill(y) for distill, y in zip(self.distill, outputs, strict=True)]
        return self.attention(self.fuse(torch.cat(kept, dim=1))) + x


class EFDN(Network):
    """Four cells; the second's output is joined with each of the others'."""

    min_size = ESA.min_size

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 48,  # even
        esa_width: Channels = 12,  # inside the attention
        conv: ConvFactory = nn.Conv2d,  # of the cells' 3x3 convolutions
    ):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(EFDNCell(width, esa_width, conv) for _ in range(4))
        self.joins = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(3))
        self.tail = pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        first = self.blocks[0](head)
        second = self.blocks[1](first)
        joined = self.joins[0](torch.cat([first, second], dim=1))
        for block, join in zip(self.blocks[2:], self.joins[1:], strict=True):
            joined = join(torch.cat([second, block(joined)], dim=1))
        return self.tail(joined + head).clamp(0, self.data_range)
