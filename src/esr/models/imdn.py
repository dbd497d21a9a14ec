"""IMDN: information multi-distillation network, winner of AIM 2019 Constrained SR.

Hui et al., ACM Multimedia 2019. IMDN+ (NTIRE 2022, team rainbow) is the same block with narrowing
convolutions, six of them, and SiLU.
"""

from collections.abc import Sequence

import torch
from torch import nn

from esr.models.arguments import Activation, Channels, ConvFactory, DataRange, Depth, Scale
from esr.models.outlines import FusionTrunk, SeriesTrunk
from esr.models.parts.layers import leaky_relu


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
