"""Small parts that every architecture uses: the usual activation and the pixel-shuffle tail."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from esr.errors import UserError

Activation = Callable[[], nn.Module]
"""Makes an activation module: a class such as `nn.SiLU`, or a partial with its arguments."""

leaky_relu: Activation = partial(nn.LeakyReLU, 0.05, inplace=True)
"""The activation of the IMDN, RFDN and RLFN families (slope 0.05)."""


def per_block(value: int | Sequence[int], depth: int, name: str) -> list[int]:
    """A width for each of `depth` blocks, from one for all or from a list.

    Raises:
        UserError: the list has another length; `name` is the argument that the user gave.
    """
    if isinstance(value, int):
        return [value] * depth
    if len(value) != depth:
        raise UserError(f"{name} has {len(value)} numbers, and there are {depth} blocks")
    return list(value)


def pixel_shuffle_tail(width: int, scale: int, bias: bool = True) -> nn.Sequential:
    """A 3x3 convolution to 3 * scale**2 channels, rearranged to an image `scale` times larger.

    Sub-pixel convolution, Shi et al., CVPR 2016. (N, width, H, W) -> (N, 3, scale*H, scale*W).
    """
    return nn.Sequential(
        nn.Conv2d(width, 3 * scale**2, 3, padding=1, bias=bias), nn.PixelShuffle(scale)
    )
