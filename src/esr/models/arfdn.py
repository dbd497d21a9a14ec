"""ARFDN (team HiImageTeam, NTIRE 2022): RFDN of asymmetric convolutions, densely added."""

from functools import partial

import torch
from torch import nn

from esr.models.esa import ESA
from esr.models.layers import leaky_relu
from esr.models.trunks import FusionTrunk


class CrossedConv(nn.Module):
    """A 3x1 then 1x3 convolution plus a 1x3 then 3x1 one, activated in between."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.vertical = nn.ModuleList(
            [
                nn.Conv2d(n_in, n_out, (3, 1), padding=(1, 0)),
                nn.Conv2d(n_out, n_out, (1, 3), padding=(0, 1)),
            ]
        )
        self.horizontal = nn.ModuleList(
            [
                nn.Conv2d(n_in, n_out, (1, 3), padding=(0, 1)),
                nn.Conv2d(n_out, n_out, (3, 1), padding=(1, 0)),
            ]
        )
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, n_in, H, W) -> (N, n_out, H, W)."""
        first, second = self.vertical
        vertical = second(self.act(first(x)))
        first, second = self.horizontal
        return vertical + second(self.act(first(x)))


class ARFDB(nn.Module):
    """Three stages of crossed convolutions; each adds everything distilled so far.

    Args:
        width: channels of the input and the output.
        distilled: channels of every stage.
        esa_width: channels inside the attention.
    """

    def __init__(self, width: int, distilled: int, esa_width: int):
        super().__init__()
        inputs = (width, distilled, distilled)
        self.distill = nn.ModuleList(nn.Conv2d(n, distilled, 1) for n in inputs)
        self.refine = nn.ModuleList(CrossedConv(n, distilled) for n in inputs)
        self.last = nn.Conv2d(distilled, distilled, 3, padding=1)
        self.fuse = nn.Conv2d(4 * distilled, width, 1)
        self.attention = ESA(width, esa_width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = []
        for stage, (distill, refine) in enumerate(zip(self.distill, self.refine, strict=True)):
            kept.append(self.act(distill(x)))
            refined = refine(x) + x if stage else refine(x)  # the first stage changes the width
            for part in reversed(kept):
                refined = refined + part
            x = self.act(refined)
        kept.append(self.act(self.last(x)))
        return self.attention(self.fuse(torch.cat(kept, dim=1)))


class ARFDN(FusionTrunk):
    """ARFDBs, their outputs fused and activated with slope 0.1.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels between the blocks.
        depth: blocks.
        distilled: channels inside the blocks.
        esa_width: channels inside the attention.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 50,
        depth: int = 4,
        distilled: int = 25,
        esa_width: int = 12,
    ):
        blocks = (ARFDB(width, distilled, esa_width) for _ in range(depth))
        act = partial(nn.LeakyReLU, 0.1, inplace=True)
        super().__init__(scale, data_range, width, blocks, act=act)
