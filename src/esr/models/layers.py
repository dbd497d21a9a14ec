"""Small parts that every architecture uses: the usual activation and the pixel-shuffle tail."""

from collections.abc import Callable
from functools import partial

from torch import nn

Activation = Callable[[], nn.Module]
"""Makes an activation module: a class such as `nn.SiLU`, or a partial with its arguments."""

leaky_relu: Activation = partial(nn.LeakyReLU, 0.05, inplace=True)
"""The activation of the IMDN, RFDN and RLFN families (slope 0.05)."""


def pixel_shuffle_tail(width: int, scale: int, bias: bool = True) -> nn.Sequential:
    """A 3x3 convolution to 3 * scale**2 channels, rearranged to an image `scale` times larger.

    Sub-pixel convolution, Shi et al., CVPR 2016. (N, width, H, W) -> (N, 3, scale*H, scale*W).
    """
    return nn.Sequential(
        nn.Conv2d(width, 3 * scale**2, 3, padding=1, bias=bias), nn.PixelShuffle(scale)
    )
