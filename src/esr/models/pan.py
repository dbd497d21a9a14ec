"""PAN: pixel attention network (Zhao et al., ECCV 2020 workshops), 272 K parameters at x4.

Sixteen self-calibrated blocks with pixel attention; nearest-neighbour enlargement in steps, each
followed by attention; the bilinear enlargement of the input is added at the end.
"""

import torch
from torch import nn

from esr.models.network import Network
from esr.models.parts.gates import AverageAttention, PixelAttention
from esr.models.parts.layers import pixel_shuffle_tail, resize, steps
from esr.models.parts.transformers import RestormerBlock


class PAN(Network):
    """Self-calibrated blocks, then upsampling by interpolation and attention.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels of the blocks.
        up_width: channels after the first enlargement.
        depth: blocks.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 40,
        up_width: int = 24,
        depth: int = 16,
    ):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(SCPA(width) for _ in range(depth))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        inputs = [width] + [up_width] * (len(steps(scale)) - 1)
        self.enlarge = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=step, mode="nearest"),
                nn.Conv2d(n_in, up_width, 3, padding=1),
                PixelAttention(up_width),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(up_width, up_width, 3, padding=1),
                nn.LeakyReLU(0.2, inplace=True),
            )
            for n_in, step in zip(inputs, steps(scale), strict=True)
        )
        self.tail = nn.Conv2d(up_width, 3, 3, padding=1)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        head = self.head(x)
        y = head
        for block in self.blocks:
            y = block(y)
        y = self.trunk(y) + head
        for part in self.enlarge:
            y = part(y)
        return self.tail(y) + resize(x, self.scale, "bilinear")


# SCET, Zou et al., CVPR 2022 workshops: self-calibrated convolutions and one transformer.
#
# Team Giantpandacv (NTIRE 2022). The convolutional blocks are those of PAN (Zhao et al., ECCV 2020
# workshops). Two paths with an upsampler each are summed; the learnable weights of that sum,
# which the paper names, were never registered by the official code and are absent here.


class SCPA(nn.Module):
    """Self-calibrated block with pixel attention: one half of the channels gates itself.

    Args:
        channels: width, even.
    """

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2

        def conv3() -> nn.Conv2d:
            return nn.Conv2d(half, half, 3, padding=1, bias=False)

        self.split = nn.ModuleList(nn.Conv2d(channels, half, 1, bias=False) for _ in range(2))
        self.plain = conv3()
        self.gate = nn.Conv2d(half, half, 1)
        self.gated = conv3()
        self.refine = conv3()
        self.fuse = nn.Conv2d(channels, channels, 1, bias=False)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        plain, gated = (self.act(conv(x)) for conv in self.split)
        plain = self.act(self.plain(plain))
        gated = self.act(self.refine(self.gated(gated) * self.gate(gated).sigmoid()))
        return self.fuse(torch.cat((plain, gated), dim=1)) + x


class SCET(Network):
    """Self-calibrated efficient transformer.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels; the upsamplers use the first `width // scale**2 * scale**2` of them.
        depth: SCPA blocks.
        heads: heads of the transformer block.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 64,
        depth: int = 16,
        heads: int = 8,
    ):
        super().__init__(scale, data_range)
        colours = width // scale**2
        self.used = colours * scale**2  # 64 at x2 and x4; 63 at x3, which has no 64
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(SCPA(width) for _ in range(depth)))
        self.transformer = RestormerBlock(width, heads)
        self.trunk = nn.Conv2d(width, self.used, 3, padding=1)
        self.tail = nn.Sequential(nn.PixelShuffle(scale), nn.Conv2d(colours, 3, 3, padding=1))
        self.skip = nn.Sequential(nn.PixelShuffle(scale), nn.Conv2d(colours, 3, 3, padding=1))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        x = self.head(x)
        deep = self.trunk(self.transformer(self.blocks(x)))
        return self.tail(deep) + self.skip(x[:, : self.used])


# PRRN, team GDUT_SR (NTIRE 2022): self-calibrated blocks, each joined with the head's features.


class Gate(nn.Module):
    """A convolution of the features, multiplied by a mask from pixel and channel attention.

    Args:
        channels: channels of the input and the output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.pixel = PixelAttention(channels)
        self.channel = AverageAttention(channels)
        self.mask = nn.Conv2d(channels, channels, 1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> the same shape."""
        return self.mask(self.pixel(x) + self.channel(x)).sigmoid() * self.conv(x)


class PRRB(nn.Module):
    """Half of the channels gates itself, half passes one convolution; both joined, with a skip.

    Args:
        width: channels of the input and the output, even.
    """

    def __init__(self, width: int):
        super().__init__()
        half = width // 2

        def conv3() -> nn.Conv2d:
            return nn.Conv2d(half, half, 3, padding=1)

        self.split = nn.ModuleList(nn.Conv2d(width, half, 1, bias=False) for _ in range(2))
        self.gate = Gate(half)
        self.gated = conv3()
        self.refine = conv3()
        self.plain = conv3()
        self.fuse = nn.Conv2d(width, width, 1, bias=False)
        self.attention = AverageAttention(width)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        gated, plain = (self.act(conv(x)) for conv in self.split)
        # The gate is a sigmoid of a product with a sigmoid: two in a row, as published.
        gated = self.act(self.refine(self.gate(gated).sigmoid() * self.gated(gated)))
        y = self.act(self.fuse(torch.cat((gated, self.act(self.plain(plain))), dim=1)))
        return self.attention(y) + x


class PRRN(Network):
    """After every block a 1x1 convolution joins its output with the head's features.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, even.
        depth: blocks.
    """

    def __init__(self, scale: int = 4, data_range: float = 1.0, width: int = 40, depth: int = 16):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(PRRB(width) for _ in range(depth))
        self.join = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(depth))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.tail = pixel_shuffle_tail(width, scale)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        x = head = self.head(x)
        for block, join in zip(self.blocks, self.join, strict=True):
            x = join(torch.cat((head, block(x)), dim=1))
        return self.tail(self.trunk(x) + head)
