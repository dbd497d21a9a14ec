"""Gates: small modules that see the features and say how much of them passes.

The ones named `...Mask` return the mask, 0..1 and broadcastable to the features, since entries
combine several; all others multiply it in and keep the shape.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from esr.models.arguments import Activation, Channels, ConvFactory, Depth, Even
from esr.models.parts.layers import resize_like


class ChannelMask(nn.Module):
    """CBAM's channel attention (Woo et al., ECCV 2018): one MLP on the averages and the maxima."""

    def __init__(self, channels: Channels, hidden: Channels):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> (N, channels, 1, 1)."""
        pooled = self.mlp(adaptive_avg_pool2d(x, 1)) + self.mlp(adaptive_max_pool2d(x, 1))
        return pooled.sigmoid()


class SpatialMask(nn.Module):
    """CBAM's spatial attention: a 7x7 convolution of the channels' mean and maximum."""

    def __init__(self, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, 1, H, W)."""
        pooled = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1)
        return self.conv(pooled).sigmoid()


class PixelMask(nn.Module):
    """A 1x1 convolution and a sigmoid: a mask per pixel, the same for all channels."""

    def __init__(self, channels: Channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> (N, 1, H, W)."""
        return self.conv(x).sigmoid()


class PixelAttention(nn.Module):
    """Pixel attention of PAN (Zhao et al., ECCV 2020 workshops): x * sigmoid(conv 1x1 (x))."""

    def __init__(self, channels: Channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.conv(x).sigmoid()


def attended_step(step: int, n_in: Channels, inner: Channels, n_out: Channels) -> nn.Sequential:
    """PAN's upsampling: nearest neighbour by `step`, a convolution, pixel attention, another."""
    return nn.Sequential(
        nn.Upsample(scale_factor=step, mode="nearest"),
        nn.Conv2d(n_in, inner, 3, padding=1),
        PixelAttention(inner),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(inner, n_out, 3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
    )


class AverageAttention(PixelAttention):
    """Channel attention from averages alone, one layer: x * sigmoid(conv 1x1 (mean of x))."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.conv(adaptive_avg_pool2d(x, 1)).sigmoid()


class HalvesGate(nn.Module):
    """Gate each half of the channels by two 3x3 convolutions of itself (AFDN's ATB, NTIRE 2022)."""

    def __init__(self, width: Even):
        super().__init__()
        half = width // 2
        self.inner = nn.ModuleList(nn.Conv2d(half, half, 3, padding=1) for _ in range(2))
        self.outer = nn.ModuleList(nn.Conv2d(half, half, 3, padding=1) for _ in range(2))
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated = [
            half * torch.sigmoid(outer(self.act(inner(half))))
            for half, inner, outer in zip(x.chunk(2, dim=1), self.inner, self.outer, strict=True)
        ]
        return torch.cat(gated, dim=1)


class HFAB(nn.Module):
    """High-frequency attention block: a mask from a narrow `stack` of 3x3 convolutions.

    FMEN, Du et al., CVPR 2022 workshops. Its activations are functional here as they are there:
    the challenge's counter, which hooks modules, does not see them.
    """

    def __init__(self, width: Channels, mid: Channels, stack: nn.Module):  # of `mid` channels
        super().__init__()
        self.squeeze = nn.Conv2d(width, mid, 3, padding=1)
        self.stack = stack
        self.excite = nn.Conv2d(mid, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = F.leaky_relu(self.squeeze(x), 0.1, inplace=True)
        mask = F.leaky_relu(self.stack(mask), 0.1, inplace=True)
        return x * torch.sigmoid(self.excite(mask))


class ContextGate(nn.Module):
    """Multiply the features by a mask that a `context` sees at lower resolution.

    What the variants of enhanced spatial attention (ESA; RFANet, Liu et al., CVPR 2020, made
    popular by RFDN) have in common: `x * sigmoid(expand(resize(context(s)) + skip(s)))` with
    `s = reduce(x)`.
    """

    def __init__(
        self,
        channels: Channels,
        width: Channels,  # inside the gate
        context: nn.Module,  # from (N, width, H, W) to (N, width, h, w), any smaller size
        skip: bool = True,  # add a 1x1 convolution of the reduced features, else themselves
        pointwise: ConvFactory = nn.Conv2d,
        gate: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid,  # makes the mask
    ):
        super().__init__()
        self.reduce = pointwise(channels, width, 1)
        self.context = context
        self.skip = pointwise(width, width, 1) if skip else nn.Identity()
        self.expand = pointwise(width, channels, 1)
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reduced = self.reduce(x)
        context = resize_like(self.context(reduced), x)
        return x * self.gate(self.expand(context + self.skip(reduced)))


class PooledContext(nn.Module):
    """A strided 3x3 convolution, 7x7 max pooling with stride 3, and `depth` 3x3 convolutions.

    The activation stands between the convolutions, not after the last. Three is RFDN's form, one
    is RLFN's. Neither the stride nor the pooling pads; about a sixth of the side is left.
    """

    min_size = 15

    def __init__(
        self,
        width: Channels,
        depth: Depth = 3,
        conv: ConvFactory = nn.Conv2d,
        act: Activation = nn.ReLU,
    ):
        super().__init__()
        self.down = nn.Conv2d(width, width, 3, stride=2)
        self.convs = nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(depth))
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.down(x), kernel_size=7, stride=3)
        for conv in self.convs[:-1]:
            x = self.act(conv(x))
        return self.convs[-1](x)


class BranchedContext(nn.Module):
    """7x7 max pooling by 7, two 3x3 convolutions side by side, one that joins them (NEESR's)."""

    min_size = 5

    def __init__(self, width: Channels):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.join = nn.Conv2d(2 * width, width, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(x, kernel_size=7, stride=7, padding=1)
        return self.join(torch.cat([self.act(branch(x)) for branch in self.branches], dim=1))


class ESA(ContextGate):
    """Enhanced spatial attention, the usual one; RFDN's `width` is `channels` / 4, RLFN's is 16."""

    min_size = PooledContext.min_size

    def __init__(self, channels: Channels, width: Channels, depth: Depth = 3, skip: bool = True):
        super().__init__(channels, width, PooledContext(width, depth), skip)
