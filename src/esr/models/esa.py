"""Enhanced spatial attention (ESA): a cheap mask from a strongly downsampled view of the features.

RFANet (Liu et al., CVPR 2020), made popular by RFDN (AIM 2020). Every variant in the literature
is `x * sigmoid(expand(resize(context(s)) + skip(s)))` with `s = reduce(x)`; the context differs.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.layers import Activation
from esr.models.network import ConvFactory


class ContextGate(nn.Module):
    """Multiply the features by a mask that a `context` sees at lower resolution.

    Args:
        channels: channels of the input and the output.
        width: channels inside the gate.
        context: module from (N, width, H, W) to (N, width, h, w), any smaller size.
        skip: add a 1x1 convolution of the reduced features to the context, else themselves.
        pointwise: makes the 1x1 convolutions.
        gate: what turns the expanded features into a mask.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        context: nn.Module,
        skip: bool = True,
        pointwise: ConvFactory = nn.Conv2d,
        gate: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid,
    ):
        super().__init__()
        self.reduce = pointwise(channels, width, 1)
        self.context = context
        self.skip = pointwise(width, width, 1) if skip else nn.Identity()
        self.expand = pointwise(width, channels, 1)
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> the same shape."""
        reduced = self.reduce(x)
        # Resized to the explicit size: a scale factor would be off by one pixel on odd sizes.
        context = F.interpolate(
            self.context(reduced), x.shape[-2:], mode="bilinear", align_corners=False
        )
        return x * self.gate(self.expand(context + self.skip(reduced)))


class PooledContext(nn.Module):
    """A strided 3x3 convolution, 7x7 max pooling with stride 3, and `depth` 3x3 convolutions.

    The activation stands between the convolutions, not after the last. Three is RFDN's form, one
    is RLFN's. Neither the stride nor the pooling pads.
    """

    min_size = 15

    def __init__(
        self,
        width: int,
        depth: int = 3,
        conv: ConvFactory = nn.Conv2d,
        act: Activation = nn.ReLU,
    ):
        super().__init__()
        self.down = nn.Conv2d(width, width, 3, stride=2)
        self.convs = nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(depth))
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> (N, width, h, w), about a sixth of the side."""
        x = F.max_pool2d(self.down(x), kernel_size=7, stride=3)
        for conv in self.convs[:-1]:
            x = self.act(conv(x))
        return self.convs[-1](x)


class BranchedContext(nn.Module):
    """7x7 max pooling with stride 7, two 3x3 convolutions side by side, and one that joins them.

    NEESR's form (NTIRE 2022).
    """

    min_size = 5

    def __init__(self, width: int):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.join = nn.Conv2d(2 * width, width, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> (N, width, h, w), about a seventh of the side."""
        x = F.max_pool2d(x, kernel_size=7, stride=7, padding=1)
        return self.join(torch.cat([self.act(branch(x)) for branch in self.branches], dim=1))


class ESA(ContextGate):
    """Enhanced spatial attention with its usual context.

    Args:
        channels: channels of the input and the output.
        width: channels inside the gate; RFDN takes a quarter of `channels`, RLFN 16.
        depth: 3x3 convolutions after the pooling: 3 in RFDN, 1 in RLFN.
        skip: see `ContextGate`.
    """

    min_size = PooledContext.min_size

    def __init__(self, channels: int, width: int, depth: int = 3, skip: bool = True):
        super().__init__(channels, width, PooledContext(width, depth), skip)
