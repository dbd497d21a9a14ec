"""IMDTN, team ZLZ (NTIRE 2022): IMDN's distillation with grouped convolutions, and Swin layers."""

import torch
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Heads, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.layers import leaky_relu
from esr.models.parts.transformers import SwinBlock


def mirror(x: torch.Tensor, dim: int, length: int) -> torch.Tensor:
    """Continue `x` along `dim` by its mirror image, the border pixel repeated, up to `length`."""
    return torch.cat((x, x.flip(dim)), dim).narrow(dim, 0, length)


class IMDTB(nn.Module):
    """Grouped, shuffled convolutions that keep a slice each; two Swin layers; a skip.

    Height and width of its input are multiples of the window.
    """

    def __init__(self, width: Channels, kept: Channels, groups: int, heads: Heads, window: int):
        super().__init__()
        self.kept, self.window = kept, window
        rest = width - kept
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, width, 3, padding=1, groups=groups) for inputs in (width, rest, rest)
        )
        self.last = nn.Conv2d(rest, kept, 3, padding=1)
        self.transformer = nn.Sequential(
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
    """Distillation blocks with window attention, their outputs fused.

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
