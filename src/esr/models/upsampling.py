"""Upsampling in steps: x4 as twice x2, x2 and x3 at once."""

import torch.nn.functional as F
from torch import Tensor, nn


def steps(scale: int) -> list[int]:
    """The factors of `scale`: [2], [3] or [2, 2]."""
    return [2, 2] if scale == 4 else [scale]


def resize(image: Tensor, scale: int, mode: str) -> Tensor:
    """The image `scale` times larger, `mode` bilinear or bicubic: (N, C, H, W) -> (N, C, sH, sW).

    Without antialiasing, pixel centres aligned; what networks add to their output.
    """
    return F.interpolate(image, scale_factor=scale, mode=mode, align_corners=False)


class ShuffleSteps(nn.Sequential):
    """For each step a convolution to the channels of that step and a pixel shuffle.

    Args:
        width: channels of input and output.
        scale: 2, 3 or 4.
        kernel_size: 1 or 3.
    """

    def __init__(self, width: int, scale: int, kernel_size: int):
        layers: list[nn.Module] = []
        for step in steps(scale):
            conv = nn.Conv2d(width, step**2 * width, kernel_size, padding=kernel_size // 2)
            layers += [conv, nn.PixelShuffle(step)]
        super().__init__(*layers)
