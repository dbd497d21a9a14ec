"""Information multi-distillation: IMDN, winner of AIM 2019 Constrained SR, and its descendants.

Hui et al., ACM Multimedia 2019. IMDN+ (NTIRE 2022, team rainbow) is the same block with narrowing
convolutions, six of them, and SiLU.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Activation, Channels, ConvFactory, DataRange, Depth, Heads, Scale
from esr.models.outlines import Blocks, FusionTrunk, SeriesTrunk
from esr.models.parts.layers import leaky_relu, pixel_shuffle_tail
from esr.models.parts.transformers import SwinBlock, merge, missing, partition


class IMDB(nn.Module):
    """Each 3x3 convolution keeps a slice of its channels and hands the rest to the next one."""

    def __init__(
        self,
        width: Channels,
        outputs: Sequence[Channels] = (64, 64, 64, 16),  # a convolution's; the last is the slice
        act: Activation = leaky_relu,
        last_act: bool = False,  # activate the last convolution, too
        conv: ConvFactory = nn.Conv2d,
    ):
        super().__init__()
        self.kept = outputs[-1]
        inputs = [width, *(n - self.kept for n in outputs[:-1])]
        self.convs = nn.ModuleList(
            conv(n_in, n_out, 3, padding=1) for n_in, n_out in zip(inputs, outputs, strict=True)
        )
        self.fuse = nn.Conv2d(len(outputs) * self.kept, width, 1)
        self.act = act()
        self.last_act = last_act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, rest = [], x
        for conv in self.convs[:-1]:
            slice_, rest = self.act(conv(rest)).tensor_split([self.kept], dim=1)
            kept.append(slice_)
        last = self.convs[-1](rest)
        kept.append(self.act(last) if self.last_act else last)
        return self.fuse(torch.cat(kept, dim=1)) + x


class IMDN(SeriesTrunk):
    """Blocks in series, as in the challenges' baseline: the paper has attention and fusion, too."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 64,
        depth: Depth = 8,
        outputs: Sequence[Channels] = (64, 64, 64, 16),  # see `IMDB`, as for the next two
        act: Activation = leaky_relu,
        last_act: bool = False,
        conv: ConvFactory = nn.Conv2d,  # of the blocks' 3x3 convolutions
    ):
        blocks = (IMDB(width, outputs, act, last_act, conv) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)


class ContrastAttention(nn.Module):
    """Channel attention from the sum of a channel's mean and its standard deviation."""

    def __init__(self, width: Channels, reduction: int = 16):  # by which the network narrows
        super().__init__()
        self.weights = nn.Sequential(
            nn.Conv2d(width, width // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        # The slope of a square root at zero is infinite; the shift is far below float32's noise.
        return x * self.weights((variance + 1e-12).sqrt() + mean)


class IMDNPaper(FusionTrunk):
    """IMDN as in the paper: blocks with contrast-aware attention, their outputs fused."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 64,  # a multiple of 16
        depth: Depth = 6,
        conv: ConvFactory = nn.Conv2d,  # of the blocks' 3x3 convolutions
    ):
        blocks = [IMDB(width, (width, width, width, width // 4), conv=conv) for _ in range(depth)]
        for block in blocks:
            fuse = nn.Sequential(ContrastAttention(width), block.fuse)
            block.fuse = fuse  # pyright: ignore[reportAttributeAccessIssue]
        super().__init__(scale, data_range, width, blocks)


def mirror(x: torch.Tensor, dim: int, length: int) -> torch.Tensor:
    """Continue `x` along `dim` by its mirror image, the border pixel repeated, up to `length`."""
    return torch.cat((x, x.flip(dim)), dim).narrow(dim, 0, length)


class IMDTB(nn.Module):
    """Grouped, shuffled convolutions that keep a slice each; two Swin layers; a skip."""

    def __init__(self, width: Channels, kept: Channels, groups: int, heads: Heads, window: int):
        super().__init__()
        self.kept = kept
        rest = width - kept
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, width, 3, padding=1, groups=groups) for inputs in (width, rest, rest)
        )
        self.last = nn.Conv2d(rest, kept, 3, padding=1)
        self.transformer = nn.Sequential(  # height and width are multiples of the window
            SwinBlock(width, heads, window), SwinBlock(width, heads, window, shift=window // 2)
        )
        self.shuffle = nn.ChannelShuffle(groups)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole, rest, slices = x, x, []
        for conv in self.convs:
            # What the next stage adds is *activated*: the official code means to add the shuffled
            # tensor, but its activation works in place. The weights were trained that way.
            whole = self.act(self.shuffle(conv(rest) + whole))
            slice_, rest = whole.tensor_split([self.kept], dim=1)
            slices.append(slice_)
        y = torch.cat((*slices, self.last(rest)), dim=1)
        return y + self.transformer(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) + x


class IMDTN(FusionTrunk):
    """Distillation blocks with window attention, their outputs fused (team ZLZ, NTIRE 2022).

    The image itself is padded to a multiple of the window, by a whole window where it already is
    one, and every convolution sees that padding.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 64,
        depth: Depth = 3,
        kept: Channels = 16,  # by each stage of a block
        groups: int = 4,  # of the convolutions and of the shuffle after each
        heads: Heads = 2,
        window: int = 6,  # its side in pixels
    ):
        blocks = (IMDTB(width, kept, groups, heads, window) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
        self.window = window
        self.min_size = (window + 1) // 2  # half of it: the mirror image is as long as the image

    def body(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        for dim in (2, 3):
            x = mirror(x, dim, (x.shape[dim] // self.window + 1) * self.window)
        return super().body(x)[..., : self.scale * height, : self.scale * width]


class GroupedConv(nn.Module):
    """A grouped 3x3 convolution, ReLU and a 1x1 convolution."""

    def __init__(self, inputs: Channels, outputs: Channels, groups: int = 4):  # divides both
        super().__init__()
        # Convolutions of their own: published so, and counted so (134 in the network).
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
    """Grouped information distilling: a stage keeps `shallow` channels and passes on `deep`."""

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


class IMDeception(Blocks):
    """Six blocks; each keeps a slice for the end, as the stages within them do.

    Team Aselsan Research (NTIRE 2022). Wherever IMDN has a 3x3 convolution, this network has a
    grouped one with a 1x1 after it; two attention layers let blocks of 32x32 pixels mix across the
    image. A slice has `core` channels, the network is four times as wide.
    """

    def __init__(self, scale: Scale = 4, data_range: DataRange = 1.0, core: Channels = 16):
        width, deep = 4 * core, 3 * core
        shapes = ((width, width, deep), *[(deep, width, deep)] * 4, (deep, core, 2 * core))
        blocks = (GIDB(n_in, n_out, core, rest) for n_in, n_out, rest in shapes)
        super().__init__(scale, data_range, width, blocks)
        self.core = core
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
