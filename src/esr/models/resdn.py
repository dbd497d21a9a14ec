"""ResDN, team cipher (NTIRE 2022): residual dense distillation and a top-down fusion."""

from collections.abc import Sequence

import torch
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.network import Network
from esr.models.parts.gates import ESA
from esr.models.parts.layers import MeanShift, pixel_shuffle_tail


def preactivated(inputs: int, outputs: int, kernel_size: int = 1) -> nn.Sequential:
    """PReLU with a slope per channel, then a convolution."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(nn.PReLU(inputs), conv)


class ResDB(nn.Module):
    """Three stages; each keeps slices for all later ones and refines `width` channels."""

    def __init__(self, width: Channels, slice_width: Channels, esa_width: Channels):
        super().__init__()
        self.slice_width = slice_width
        # Stage k sees k slices and makes one for each stage after it and for the end: 3 - k.
        self.expand = nn.ModuleList(
            preactivated(width + k * slice_width, width + (3 - k) * slice_width) for k in range(3)
        )
        self.refine = nn.ModuleList(preactivated(width, width, 3) for _ in range(3))
        self.fuse = preactivated(width + 3 * slice_width, width)
        self.attention = ESA(width, esa_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        kept: Sequence[list[torch.Tensor]] = ([], [], [])  # for stages 1 and 2, and for the end
        for k, (expand, refine) in enumerate(zip(self.expand, self.refine, strict=True)):
            seen = torch.cat((y, *kept[k - 1]), dim=1) if k else y
            wide, *slices = expand(seen).split([y.shape[1], *[self.slice_width] * (3 - k)], dim=1)
            for target, piece in zip(kept[k:], slices, strict=True):
                target.append(piece)
            y = y + refine(wide)
        return self.attention(self.fuse(torch.cat((y, *kept[2]), dim=1))) + x


class ResDN(Network):
    """Blocks in series whose outputs are joined from the last to the first, half and half."""

    min_size = ESA.min_size

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 48,  # even
        depth: Depth = 4,
        slice_width: Channels = 16,  # of one slice kept by a block's stage
        esa_width: Channels = 12,  # inside the attention
    ):
        super().__init__(scale, data_range)
        self.subtract_mean = MeanShift(-data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResDB(width, slice_width, esa_width) for _ in range(depth))

        def half() -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(width, width // 2, 1), nn.ReLU(inplace=True))

        self.top = nn.ModuleList(half() for _ in range(depth - 1))
        self.lateral = nn.ModuleList(half() for _ in range(depth - 1))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.tail = pixel_shuffle_tail(width, scale)
        self.add_mean = MeanShift(data_range)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = head = self.head(self.subtract_mean(x))
        outputs = []
        for block in self.blocks:
            y = block(y)
            outputs.append(y)
        for top, lateral, earlier in zip(self.top, self.lateral, outputs[-2::-1], strict=True):
            y = torch.cat((top(y), lateral(earlier)), dim=1)
        return self.add_mean(self.tail(self.trunk(y + head)))
