"""NLFFC, team Virtual_Reality (NTIRE 2022): Fourier convolutions at the output's resolution.

The image is enlarged by bicubic interpolation *first* and everything runs at full size, so one
image costs some forty times an RFDN's work. Two parts see the whole image, the Fourier transform
along its height and softmaxes over all its pixels: the output depends on where an image is cut,
and the published figure belongs to tiles of 256 that overlap by 32 (the entry's `tile`).
"""

import torch
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Even, Scale
from esr.models.network import Network
from esr.models.parts.layers import resize


class SpectralConv(nn.Module):
    """A 1x1 convolution of the spectrum along the height.

    Fast Fourier convolution (Chi et al., NeurIPS 2020) in one dimension. Real and imaginary
    parts are channels, in turn.
    """

    def __init__(self, channels: Channels):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The transforms know no 16-bit floats.
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        spectrum = torch.view_as_real(torch.fft.rfft(precise, dim=2, norm="ortho"))
        spectrum = spectrum.movedim(-1, 2).flatten(1, 2).to(x.dtype)
        spectrum = self.act(self.conv(spectrum)).to(precise.dtype).unflatten(1, (-1, 2))
        spectrum = torch.view_as_complex(spectrum.movedim(2, -1).contiguous())
        return torch.fft.irfft(spectrum, n=x.shape[2], dim=2, norm="ortho").to(x.dtype)


class GlobalContext(nn.Module):
    """Multiply the features by a softmax over all pixels of what convolutions make of them."""

    def __init__(self, channels: Channels):
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, 1)
        self.convs = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A function: the official counter does not see this ReLU, but it does the network's last.
        mask = self.mask(x).relu().flatten(2).softmax(dim=-1).unflatten(-1, x.shape[2:])
        return x * self.convs(x * mask).flatten(2).softmax(dim=-1).view_as(x)


class FourierUnit(nn.Module):
    """Half of the channels local, half global, each half seeing both."""

    def __init__(self, width: Even):
        super().__init__()
        half = width // 2
        self.local = nn.ModuleList(nn.Conv2d(half, half, 3, padding=1) for _ in range(2))
        self.context = GlobalContext(half)
        self.project = nn.Conv2d(half, half, 1)
        self.spectral = SpectralConv(half)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near, far = x.chunk(2, dim=1)
        local = self.act(self.local[0](near)) + self.act(self.local[1](far))
        return torch.cat((local, self.project(self.context(near)) + self.spectral(far)), dim=1)


class NLFFC(Network):
    """Fourier units on the enlarged image, with skips between every fourth and its middle."""

    def __init__(
        self, scale: Scale = 4, data_range: DataRange = 1.0, width: Even = 64, depth: Depth = 9
    ):
        super().__init__(scale, data_range)
        self.head = nn.Conv2d(3, width, 1)
        self.blocks = nn.ModuleList(FourierUnit(width) for _ in range(depth))
        self.fuse = nn.ModuleList(
            nn.Conv2d(width, width if n < depth else 3, 1)  # the last makes the image
            for n in range(1, depth + 1)
        )
        self.act = nn.ReLU(inplace=True)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(resize(x, self.scale, "bicubic"))
        outputs = [x]
        for n, (block, fuse) in enumerate(zip(self.blocks, self.fuse, strict=True), start=1):
            x = fuse(block(x))
            if n % 4 == 0 and n < len(self.blocks):
                x = x + outputs[n // 2]  # 4 adds 2, 8 adds 4
            outputs.append(x)
        return self.act(x)
