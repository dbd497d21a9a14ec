"""SPAN: swift parameter-free attention network, winner of NTIRE 2024 Efficient SR (XiaomiMM).

Wan et al. The attention has no weights: a block multiplies its residual sum by the sigmoid of its
own features, shifted to be odd. Train it with `conv=conv3xc`. Two details come from the official
code, not from the paper: the input is centred by the mean of DIV2K and multiplied by 255 while the
output is in [0, 1]; and the last block's first features join the fusion after their activation,
because that one works in place.
"""

import torch
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Scale
from esr.models.outlines import Blocks
from esr.models.parts.layers import DIV2K_MEAN, pixel_shuffle_tail


class SPAB(nn.Module):
    """Three 3x3 convolutions, and (their result + input) weighted by an odd function of the result.

    Returns the output and the first activated features, both (N, width, H, W).
    """

    def __init__(self, width: Channels, conv: ConvFactory = nn.Conv2d):
        super().__init__()
        self.convs = nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(3))
        self.act = nn.SiLU()

    def gate(self, y: torch.Tensor) -> torch.Tensor:
        """The attention that the convolutions' result calls for."""
        return torch.sigmoid(y) - 0.5

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = self.act(self.convs[0](x))
        y = self.convs[2](self.act(self.convs[1](first)))
        return (y + x) * self.gate(y), first


class SPAN(Blocks):
    """head, blocks, a fusion of four of the feature maps on the way, tail."""

    block: type[SPAB] = SPAB  # a network of other blocks names its own
    mean: torch.Tensor

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 48,  # in the paper; 28 in the challenge of 2024
        depth: Depth = 6,
        gain: float = 255.0,  # on the centred input
        conv: ConvFactory = nn.Conv2d,  # all 3x3 convolutions but the tail's; Conv3XC in the paper
    ):
        blocks = (self.block(width, conv) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks, conv)
        self.gain = gain
        mean = torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1) * data_range
        self.register_buffer("mean", mean, persistent=False)
        self.trunk = conv(width, width, 3, padding=1)
        self.fuse = nn.Conv2d(4 * width, width, 1)
        self.tail = pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = inner = head = self.head((x - self.mean) * self.gain)
        outputs = []
        for block in self.blocks:
            y, inner = block(y)
            outputs.append(y)
        return self.tail(self.fuse(torch.cat([head, self.trunk(y), outputs[0], inner], dim=1)))
