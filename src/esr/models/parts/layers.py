"""Layers that many architectures use: activations, tails, norms, separable convolutions."""

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from esr.errors import UserError
from esr.models.arguments import Activation, Channels, PerBlock, Scale

leaky_relu: Activation = partial(nn.LeakyReLU, 0.05, inplace=True)
"""The activation of the IMDN, RFDN and RLFN families (slope 0.05)."""

silu: Activation = partial(nn.SiLU, inplace=True)


def per_block(value: PerBlock, depth: int, name: str) -> list[int]:
    """A width for each of `depth` blocks, from one for all or from a list.

    Raises:
        UserError: the list has another length; `name` is the argument that the user gave.
    """
    if isinstance(value, int):
        return [value] * depth
    if len(value) != depth:
        raise UserError(f"{name} has {len(value)} numbers, and there are {depth} blocks")
    return list(value)


def in_turn(modules: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """The outputs of modules in series: each sees the one before's, the first sees `x`."""
    outputs = []
    for module in modules:
        x = module(x)
        outputs.append(x)
    return outputs


def pixel_shuffle_tail(width: Channels, scale: Scale, bias: bool = True) -> nn.Sequential:
    """A 3x3 convolution to 3 * scale**2 channels, rearranged to an image `scale` times larger.

    Sub-pixel convolution, Shi et al., CVPR 2016. (N, width, H, W) -> (N, 3, scale*H, scale*W).
    """
    return nn.Sequential(
        nn.Conv2d(width, 3 * scale**2, 3, padding=1, bias=bias), nn.PixelShuffle(scale)
    )


def steps(scale: Scale) -> list[int]:
    """Factors for upsampling in steps, x4 as twice x2: [2], [3] or [2, 2]."""
    return [2, 2] if scale == 4 else [scale]


def resize(image: Tensor, scale: Scale, mode: str) -> Tensor:
    """The image `scale` times larger, `mode` bilinear or bicubic: (N, C, H, W) -> (N, C, sH, sW).

    Without antialiasing, pixel centres aligned; what networks add to their output.
    """
    return F.interpolate(image, scale_factor=scale, mode=mode, align_corners=False)


def resize_like(x: Tensor, like: Tensor) -> Tensor:
    """Bilinearly to the size of `like`; a scale factor would be off by one pixel on odd sizes."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class ShuffleSteps(nn.Sequential):
    """For each of the `steps` a convolution to the channels of that step and a pixel shuffle."""

    def __init__(self, width: Channels, scale: Scale, kernel_size: int):  # 1 or 3
        layers: list[nn.Module] = []
        for step in steps(scale):
            conv = nn.Conv2d(width, step**2 * width, kernel_size, padding=kernel_size // 2)
            layers += [conv, nn.PixelShuffle(step)]
        super().__init__(*layers)


DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean R, G and B of DIV2K's training images, in [0, 1]."""


class MeanShift(nn.Conv2d):
    """Add `factor * DIV2K_MEAN` to an RGB image, as EDSR and its descendants do.

    It stays a convolution, frozen, because the official files hold its 12 numbers and the
    published counters include it.
    """

    def __init__(self, factor: float):  # the value range with a sign: -1 subtracts, +1 adds
        super().__init__(3, 3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3)[:, :, None, None])
            self.bias = nn.Parameter(factor * torch.tensor(DIV2K_MEAN))
        self.requires_grad_(False)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of an NCHW tensor (population variance)."""

    def __init__(self, channels: Channels):
        super().__init__(channels)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def normed_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Module:
    """A convolution under weight normalisation (Salimans and Kingma, 2016), one norm a filter.

    Its parameters are `parametrizations.weight.original0` (the norms, `weight_g` in files made
    with torch's older hook) and `.original1` (the directions, `weight_v`).
    """
    return weight_norm(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
    )


class PointwiseLinear(nn.Linear):
    """A 1x1 convolution in the form of a linear layer, with the arguments of `nn.Conv2d`.

    As in BSRN's challenge entry: the same arithmetic, but the challenge counts neither its
    activations nor it as a convolution, and its FLOPs wrongly.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int = 1):
        super().__init__(n_in, n_out)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PointwiseGELU(nn.GELU):
    """GELU of maps whose channels lie side by side in memory, as `PointwiseLinear` leaves them."""

    def forward(self, input: Tensor) -> Tensor:
        # On a CPU it is half as fast again on the view in which they are contiguous.
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class BSConv(nn.Module):
    """Blueprint separable convolution (BSConv-U; Haase and Amthor, CVPR 2020).

    A 1x1 convolution (`PointwiseLinear`), then a depthwise one; the arguments of `nn.Conv2d`.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int = 3, padding: int = 1):
        super().__init__()
        self.pointwise = PointwiseLinear(n_in, n_out)
        self.depthwise = nn.Conv2d(n_out, n_out, kernel_size, padding=padding, groups=n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(self.pointwise(x))
