"""MDAN, team ncepu_explorers (NTIRE 2022): multi-dilation branches under weight normalisation.

The attention takes a softmax over all pixels, so the output depends on how an image is cut.
"""

import torch
from torch import nn

from esr.models.network import Network
from esr.models.parts.layers import MeanShift, normed_conv, resize


class SeparableConv(nn.Sequential):
    """A 1x1 convolution in three groups, a depthwise 3x3 one and a 1x1 one, nothing between.

    Args:
        inputs: channels of the input, a multiple of 3.
        outputs: channels of the output.
        dilation: dilation of the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int = 1):
        super().__init__(
            normed_conv(inputs, inputs, 1, groups=3),
            normed_conv(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs),
            normed_conv(inputs, outputs, 1),
        )


class DilatedResidual(nn.Module):
    """Three rounds of two branches side by side, joined by a 1x1 convolution, with a skip (MIRB).

    Args:
        width: channels of the input and the output, a multiple of 6.
        dilation: dilation of the second branch.
    """

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.near = nn.ModuleList(SeparableConv(width, width // 2) for _ in range(3))
        self.far = nn.ModuleList(SeparableConv(width, width // 2, dilation) for _ in range(3))
        self.fuse = normed_conv(width, width, 1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        y = x
        for near, far in zip(self.near, self.far, strict=True):
            y = torch.cat((self.act(near(y)), self.act(far(y))), dim=1)
        return self.fuse(y) + x


class MDAB(nn.Module):
    """Attention by two softmaxes, over the channels of a pixel and over the pixels of a channel.

    Args:
        width: channels of the input and the output, a multiple of 6.
    """

    def __init__(self, width: int):
        super().__init__()
        self.point = normed_conv(width, width // 2, 1)
        self.separable = SeparableConv(width, width // 2)
        self.value = normed_conv(width, width, 1)
        self.logits = SeparableConv(width, width)
        self.project = normed_conv(width, width, 1)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        x = torch.cat((self.point(x), self.separable(x)), dim=1)
        value, logits = self.value(x), self.logits(x)
        pixels = logits.flatten(2).softmax(dim=-1).view_as(x)
        return self.scale * self.project(value * logits.softmax(dim=1) + value * pixels)


class MDAN(Network):
    """Blocks in series; the attention of each one's output is fused, with a bicubic image skip.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, a multiple of 6.
        depth: blocks of six residual units.
        dilations: dilation of the six units.
        mean_range: what the mean colour is multiplied by before it is taken off the image.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 48,
        depth: int = 3,
        dilations: tuple[int, ...] = (1, 1, 2, 2, 3, 3),
        mean_range: float = 3.0,
    ):
        super().__init__(scale, data_range)
        # The team passed 3, the number of colours, where 255 was meant. The weights live with it.
        self.subtract_mean = MeanShift(-mean_range)
        self.head = normed_conv(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(DilatedResidual(width, d) for d in dilations)) for _ in range(depth)
        )
        self.attention = nn.ModuleList(MDAB(width) for _ in range(depth))
        self.fuse = normed_conv(depth * width, width, 1)
        self.tail = nn.Sequential(
            normed_conv(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )
        self.add_mean = MeanShift(mean_range)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        image = self.subtract_mean(x)
        y = head = self.act(self.head(image))
        outputs = []
        for block, attention in zip(self.blocks, self.attention, strict=True):
            y = block(y) + y
            outputs.append(attention(y))
        y = self.tail(self.fuse(torch.cat(outputs, dim=1)) + head)
        return self.add_mean(y + resize(image, self.scale, "bicubic"))
