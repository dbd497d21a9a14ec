"""IMDeception, team Aselsan Research (NTIRE 2022): grouped information distillation.

Wherever IMDN has a 3x3 convolution, this network has a grouped one with a 1x1 after it; two
attention layers let blocks of 32x32 pixels mix across the image.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Scale
from esr.models.network import Network
from esr.models.parts.layers import leaky_relu, pixel_shuffle_tail
from esr.models.parts.transformers import merge, missing, partition


class GroupedConv(nn.Module):
    """A grouped 3x3 convolution, ReLU and a 1x1 convolution.

    The groups are convolutions of their own: published so, and counted so (134 in the network).
    """

    def __init__(self, inputs: Channels, outputs: Channels, groups: int = 4):  # divides both
        super().__init__()
        self.groups = nn.ModuleList(
            nn.Conv2d(inputs // groups, outputs // groups, 3, padding=1) for _ in range(groups)
        )
        self.project = nn.Conv2d(outputs, outputs, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pieces = x.chunk(len(self.groups), dim=1)
        y = torch.cat([conv(p) for conv, p in zip(self.groups, pieces, strict=True)], dim=1)
        return self.project(self.act(y))


class GIDB(nn.Module):
    """Grouped information distilling block: stages that each keep some channels, pass on the rest.

    A stage keeps `shallow` channels and hands on `deep`.
    """

    def __init__(self, inputs: Channels, outputs: Channels, shallow: Channels, deep: Channels):
        super().__init__()
        self.shallow = shallow
        both = shallow + deep
        widths = ((inputs, both), (deep, both), (deep, both), (deep, shallow))
        self.stages = nn.ModuleList(GroupedConv(n_in, n_out) for n_in, n_out in widths)
        self.fuse = nn.Conv2d(4 * shallow + inputs, outputs, 1)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, rest = [], x
        for stage in self.stages:
            slice_, rest = self.act(stage(rest)).tensor_split([self.shallow], dim=1)
            kept.append(slice_)
        return self.fuse(torch.cat((*kept, x), dim=1))


class BlockAttention(nn.Module):
    """Attention among the 64 patches of 4x4 pixels in each block of 32x32.

    Blocks at the border are filled with zeros, which are attended to. The official code pads to a
    multiple of 64, and by another 64 where the side already is one; what that adds beyond the
    blocks at the border is blocks of nothing but padding, which are cut off again and change
    nothing, so they are left out here.
    """

    patch = 4
    block = 8

    def __init__(self, channels: Channels, hidden: Channels):  # of queries, keys and values each
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * hidden, 1)
        self.project = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        right, bottom = (missing(side, self.patch * self.block) for side in (width, height))
        qkv = F.pixel_unshuffle(F.pad(self.qkv(x), (0, right, 0, bottom)), self.patch)
        rows, columns = qkv.shape[2:]
        q, k, v = partition(qkv.permute(0, 2, 3, 1), self.block).chunk(3, dim=-1)
        blocks = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # not divided by sqrt(192)
        y = merge(blocks, self.block, rows, columns).permute(0, 3, 1, 2)
        # This way round the sum keeps the projection's layout in memory, channels side by side, in
        # which a CPU runs the rest of the network a tenth faster.
        return self.project(F.pixel_shuffle(y, self.patch)[..., :height, :width]) + x


class IMDeception(Network):
    """Six blocks; each keeps a slice for the end, as the stages within them do.

    A slice has `core` channels, the network is four times as wide.
    """

    def __init__(self, scale: Scale = 4, data_range: DataRange = 1.0, core: Channels = 16):
        super().__init__(scale, data_range)
        width, deep = 4 * core, 3 * core
        self.core = core
        self.head = nn.Conv2d(3, width, 3, padding=1)
        inner = [GIDB(width if i == 0 else deep, width, core, deep) for i in range(5)]
        self.blocks = nn.ModuleList([*inner, GIDB(deep, core, core, 2 * core)])
        self.attention = nn.ModuleList(BlockAttention(deep, deep // 4) for _ in range(2))
        self.fuse = nn.Conv2d(6 * core, width, 1)
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.tail = pixel_shuffle_tail(width, scale)
        self.act = leaky_relu()

    def body(self, x: torch.Tensor) -> torch.Tensor:
        rest = head = self.head(x)
        kept = []
        for n, block in enumerate(self.blocks, start=1):
            slice_, rest = block(rest).tensor_split([self.core], dim=1)
            kept.append(slice_)
            if n in (2, 4):
                rest = self.attention[n // 2 - 1](rest)
        y = self.act(self.fuse(torch.cat(kept, dim=1)))
        return self.tail(self.act(self.trunk(y)) + head)
