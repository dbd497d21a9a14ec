"""RFESR, team imglhl (NTIRE 2022): weighted residual units joined by one shared convolution."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Scale
from esr.models.outlines import SeriesTrunk
from esr.models.parts.gates import ContextGate, PooledContext
from esr.models.parts.layers import leaky_relu, normed_conv


class WeightedResidual(nn.Module):
    """`body_scale * transform(x) + skip_scale * x` with two learned numbers."""

    def __init__(self):
        super().__init__()
        self.body_scale = nn.Parameter(torch.ones(1))
        self.skip_scale = nn.Parameter(torch.ones(1))

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body_scale * self.transform(x) + self.skip_scale * x


class DilatedContext(nn.Module):
    """A strided convolution, 7x7 max pooling and two convolutions side by side, one dilated."""

    min_size = PooledContext.min_size  # it pools alike

    def __init__(self, width: Channels):
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
    """Two weight-normed convolutions and an ESA with a hard sigmoid."""

    def __init__(self, width: Channels, esa_width: Channels):
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
        return self.attention(self.convs(x))


class LRFFB(WeightedResidual):
    """Four units in series, joined from the last to the first by one convolution used thrice."""

    def __init__(self, width: Channels, esa_width: Channels):
        super().__init__()
        self.units = nn.ModuleList(AAWRU(width, esa_width) for _ in range(4))
        self.shuffle = nn.ChannelShuffle(2)
        self.join = normed_conv(2 * width, width, 1)

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        outputs = []
        for n, unit in enumerate(self.units):
            x = unit(x) + x if n in (1, 2) else unit(x)  # the first and the last have no skip
            outputs.append(x)
        for earlier in outputs[-2::-1]:
            x = self.join(self.shuffle(torch.cat((x, earlier), dim=1)))
        return x


class RFESR(SeriesTrunk):
    """Residual feature fusion blocks in series."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 32,  # even
        depth: Depth = 4,
        esa_width: Channels = 8,  # inside the attention
    ):
        super().__init__(scale, data_range, width, (LRFFB(width, esa_width) for _ in range(depth)))
