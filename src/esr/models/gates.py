"""Gates: small modules that see the features and say how much of them passes.

The ones named `...Mask` return the mask, 0..1 and broadcastable to the features, since entries
combine several; the ones named `...Attention` multiply it in.
"""

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d


class ChannelMask(nn.Module):
    """CBAM's channel attention (Woo et al., ECCV 2018): one MLP on the averages and the maxima.

    Args:
        channels: channels of the features.
        hidden: channels between the two layers.
    """

    def __init__(self, channels: int, hidden: int):
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
    """CBAM's spatial attention: a 7x7 convolution of the channels' mean and maximum.

    Args:
        bias: whether the convolution has a bias.
    """

    def __init__(self, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, 1, H, W)."""
        pooled = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1)
        return self.conv(pooled).sigmoid()


class PixelMask(nn.Module):
    """A 1x1 convolution and a sigmoid: a mask per pixel, the same for all channels.

    Args:
        channels: channels of the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> (N, 1, H, W)."""
        return self.conv(x).sigmoid()


class PixelAttention(nn.Module):
    """Pixel attention of PAN (Zhao et al., ECCV 2020 workshops): x * sigmoid(conv 1x1 (x)).

    Args:
        channels: channels of the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> the same shape."""
        return x * self.conv(x).sigmoid()


class AverageAttention(nn.Module):
    """Channel attention from averages alone, one layer: x * sigmoid(conv 1x1 (mean of x)).

    Args:
        channels: channels of the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> the same shape."""
        return x * self.conv(adaptive_avg_pool2d(x, 1)).sigmoid()
