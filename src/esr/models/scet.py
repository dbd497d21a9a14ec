"""SCET, Zou et al., CVPR 2022 workshops: self-calibrated convolutions and one transformer.

Team Giantpandacv (NTIRE 2022). The convolutional blocks are those of PAN (Zhao et al., ECCV 2020
workshops). Two paths with an upsampler each are summed; the learnable weights of that sum,
which the paper names, were never registered by the official code and are absent here.
"""

import torch
from torch import nn

from esr.models.network import Network
from esr.models.restormer import RestormerBlock


class SCPA(nn.Module):
    """Self-calibrated block with pixel attention: one half of the channels gates itself.

    Args:
        channels: width, even.
    """

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2

        def conv3() -> nn.Conv2d:
            return nn.Conv2d(half, half, 3, padding=1, bias=False)

        self.split = nn.ModuleList(nn.Conv2d(channels, half, 1, bias=False) for _ in range(2))
        self.plain = conv3()
        self.gate = nn.Conv2d(half, half, 1)
        self.gated = conv3()
        self.refine = conv3()
        self.fuse = nn.Conv2d(channels, channels, 1, bias=False)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        plain, gated = (self.act(conv(x)) for conv in self.split)
        plain = self.act(self.plain(plain))
        gated = self.act(self.refine(self.gated(gated) * self.gate(gated).sigmoid()))
        return self.fuse(torch.cat((plain, gated), dim=1)) + x


class SCET(Network):
    """Self-calibrated efficient transformer.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels; the upsamplers use the first `width // scale**2 * scale**2` of them.
        depth: SCPA blocks.
        heads: heads of the transformer block.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 64,
        depth: int = 16,
        heads: int = 8,
    ):
        super().__init__(scale, data_range)
        colours = width // scale**2
        self.used = colours * scale**2  # 64 at x2 and x4; 63 at x3, which has no 64
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(SCPA(width) for _ in range(depth)))
        self.transformer = RestormerBlock(width, heads)
        self.trunk = nn.Conv2d(width, self.used, 3, padding=1)
        self.tail = nn.Sequential(nn.PixelShuffle(scale), nn.Conv2d(colours, 3, 3, padding=1))
        self.skip = nn.Sequential(nn.PixelShuffle(scale), nn.Conv2d(colours, 3, 3, padding=1))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        """See `Network.body`."""
        x = self.head(x)
        deep = self.trunk(self.transformer(self.blocks(x)))
        return self.tail(deep) + self.skip(x[:, : self.used])
