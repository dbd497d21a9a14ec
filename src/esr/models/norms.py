"""LayerNorm over the channels of an image, and convolutions under weight normalisation."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of an NCHW tensor (population variance).

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int):
        super().__init__(channels)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def normed_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """A convolution under weight normalisation (Salimans and Kingma, 2016), one norm a filter.

    Its parameters are `parametrizations.weight.original0` (the norms, `weight_g` in files made
    with torch's older hook) and `.original1` (the directions, `weight_v`).
    """
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
    )
    return weight_norm(conv)
