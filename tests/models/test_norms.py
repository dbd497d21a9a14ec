"""Norms: over the channels of a pixel, and of a convolution's filters."""

import torch
from torch import nn

from esr.models.parts.layers import DIV2K_MEAN, ChannelNorm, MeanShift, normed_conv


def test_channel_norm_standardises_each_pixel() -> None:
    norm, x = ChannelNorm(5), torch.randn(2, 5, 3, 4) * 7 + 2
    mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    torch.testing.assert_close(norm(x), (x - mean) / (var + 1e-5).sqrt(), rtol=0, atol=1e-5)


def test_normed_conv_has_the_norms_it_stores() -> None:
    conv = normed_conv(6, 4, 3, padding=1, groups=2)
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.get_parameter("parametrizations.weight.original0").copy_(
            torch.arange(1.0, 5).view(4, 1, 1, 1)
        )
        norms = conv.weight.flatten(1).norm(dim=1)
        before = conv(torch.ones(1, 6, 5, 5))
        conv.get_parameter("parametrizations.weight.original1").mul_(3)  # a direction has no length
        after = conv(torch.ones(1, 6, 5, 5))
    torch.testing.assert_close(norms, torch.arange(1.0, 5))
    torch.testing.assert_close(after, before)


def test_mean_shift_adds_the_mean_and_stays_as_it_is() -> None:
    shift, x = MeanShift(-255), torch.rand(1, 3, 2, 2) * 255
    torch.testing.assert_close(shift(x), x - 255 * torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1))
    assert not any(parameter.requires_grad for parameter in shift.parameters())
