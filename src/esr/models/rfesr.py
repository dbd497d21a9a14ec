"""RFESR, team imglhl (NTIRE 2022): weighted residual units joined by one shared convolution."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.outlines import SeriesTrunk
from esr.models.parts.gates import ContextGate, PooledContext
from esr.models.parts.layers import leaky_relu, normed_conv


class WeightedResidual(nn.Module):
    """`body_scale * body(x) + skip_scale * x` with two learned numbers."""

    def __init__(self):
        super().__init__()
        self.body_scale = nn.Parameter(torch.ones(1))
        self.skip_scale = nn.Parameter(torch.ones(1))

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        """The body: (N, C, H, W) -> the same shape."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        return self.body_scale * self.transform(x) + self.skip_scale * x


class DilatedContext(nn.Module):
    """A strided convolution, 7x7 max pooling and two convolutions side by side, one dilated.

    Args:
        width: channels of the input and the output.
    """

    def __init__(self, width: int):
        super().__init__()
        self.down = nn.Conv2d(width, width, 3, stride=2)
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.far = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> (N, width, h, w), about a sixth of the side."""
        x = F.max_pool2d(self.down(x), kernel_size=7, stride=3)
        return self.act(self.near(x)) + self.act(self.far(x))


class AAWRU(WeightedResidual):
    """Two weight-normed convolutions and an ESA with a hard sigmoid.

    Args:
        width: channels of the input and the output.
        esa_width: channels inside the attention.
    """

    def __init__(self, width: int, esa_width: int):
        super().__init__()
        self.convs = nn.Sequential(
            normed_conv(width, width, 3, padding=1),
            nn.LeakyReLU(inplace=True),  # torch's slope of 0.01; elsewhere it is 0.05
            normed_conv(width, width, 3, padding=1),
        )
        self.attention = ContextGate(
            width, esa_width, DilatedContext(esa_width), skip=False, gate=F.hardsigmoid
        )

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        return self.attention(self.convs(x))


class LRFFB(WeightedResidual):
    """Four units in series, joined from the last to the first by one convolution used thrice.

    Args:
        width: channels of the input and the output, even.
        esa_width: channels inside the units' attention.
    """

    def __init__(self, width: int, esa_width: int):
        super().__init__()
        self.units = nn.ModuleList(AAWRU(width, esa_width) for _ in range(4))
        self.shuffle = nn.ChannelShuffle(2)
        self.join = normed_conv(2 * width, width, 1)

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        outputs = []
        for n, unit in enumerate(self.units):
            x = unit(x) + x if n in (1, 2) else unit(x)  # the first and the last have no skip
            outputs.append(x)
        for earlier in outputs[-2::-1]:
            x = self.join(self.shuffle(torch.cat((x, earlier), dim=1)))
        return x


class RFESR(SeriesTrunk):
    """Residual feature fusion blocks in series.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, even.
        depth: blocks.
        esa_width: channels inside the attention.
    """

    min_size = PooledContext.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 32,
        depth: int = 4,
        esa_width: int = 8,
    ):
        super().__init__(scale, data_range, width, (LRFFB(width, esa_width) for _ in range(depth)))
