"""IMDN: information multi-distillation network, winner of AIM 2019 Constrained SR.

Hui et al., ACM Multimedia 2019. The challenges' baseline leaves out the paper's contrast-aware
channel attention and the fusion of all blocks, and so does this. IMDN+ (NTIRE 2022, team rainbow)
is the same block with narrowing convolutions, six of them, and SiLU.
"""

from collections.abc import Sequence

import torch
from torch import nn

from esr.models.arguments import Activation, ConvFactory
from esr.models.outlines import FusionTrunk, SeriesTrunk
from esr.models.parts.layers import leaky_relu


class IMDB(nn.Module):
    """Each 3x3 convolution keeps a slice of its channels and hands the rest to the next one.

    Args:
        width: channels of the input and the output.
        outputs: channels that each convolution makes; the last number is the slice kept each time.
        act: makes the activation.
        last_act: activate the last convolution too.
        conv: makes the 3x3 convolutions.
    """

    def __init__(
        self,
        width: int,
        outputs: Sequence[int] = (64, 64, 64, 16),
        act: Activation = leaky_relu,
        last_act: bool = False,
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
        """(N, width, H, W) -> the same shape."""
        kept, rest = [], x
        for conv in self.convs[:-1]:
            slice_, rest = self.act(conv(rest)).tensor_split([self.kept], dim=1)
            kept.append(slice_)
        last = self.convs[-1](rest)
        kept.append(self.act(last) if self.last_act else last)
        return self.fuse(torch.cat(kept, dim=1)) + x


class IMDN(SeriesTrunk):
    """Information multi-distillation blocks in series.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        outputs: see `IMDB`.
        act: see `IMDB`.
        last_act: see `IMDB`.
        conv: makes the 3x3 convolutions of the blocks.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 64,
        depth: int = 8,
        outputs: Sequence[int] = (64, 64, 64, 16),
        act: Activation = leaky_relu,
        last_act: bool = False,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (IMDB(width, outputs, act, last_act, conv) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)


# IMDN as in the paper (Hui et al., ACM Multimedia 2019): attention and fusion of all blocks.
#
# The challenges' baseline, `esr.models.imdn`, has neither.


class ContrastAttention(nn.Module):
    """Channel attention from the sum of a channel's mean and its standard deviation.

    Args:
        width: channels.
        reduction: by which the two-layer network narrows.
    """

    def __init__(self, width: int, reduction: int = 16):
        super().__init__()
        self.weights = nn.Sequential(
            nn.Conv2d(width, width // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        # The slope of a square root at zero is infinite; the shift is far below float32's noise.
        return x * self.weights((variance + 1e-12).sqrt() + mean)


class IMDNPaper(FusionTrunk):
    """Multi-distillation blocks with contrast-aware attention, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, a multiple of 16.
        depth: blocks.
        conv: makes the 3x3 convolutions of the blocks.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 64,
        depth: int = 6,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = [IMDB(width, (width, width, width, width // 4), conv=conv) for _ in range(depth)]
        for block in blocks:
            fuse = nn.Sequential(ContrastAttention(width), block.fuse)
            block.fuse = fuse  # pyright: ignore[reportAttributeAccessIssue]
        super().__init__(scale, data_range, width, blocks)
