"""BMDN (team NWPU_SweetDreamLab, NTIRE 2022): RFDN at half width, the distilled part fed back."""

import torch
from torch import nn

from esr.models.esa import ESA
from esr.models.trunks import FusionTrunk


class BMDB(nn.Module):
    """Each stage sums a 3x3 convolution of its input and one of what was distilled from it.

    Args:
        width: channels of the input and the output.
        inner: channels of every stage.
        esa_width: channels inside the attention.
    """

    def __init__(self, width: int, inner: int, esa_width: int):
        super().__init__()
        inputs = (width, inner, inner)
        self.distill = nn.ModuleList(nn.Conv2d(n, inner, 1) for n in inputs)
        self.refine = nn.ModuleList(nn.Conv2d(n, inner, 3, padding=1) for n in inputs)
        self.back = nn.ModuleList(nn.Conv2d(inner, inner, 3, padding=1) for _ in inputs)
        self.last = nn.Conv2d(inner, inner, 3, padding=1)
        self.fuse = nn.Conv2d(4 * inner, width, 1)
        self.attention = ESA(width, esa_width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = []
        for stage, (distill, refine, back) in enumerate(
            zip(self.distill, self.refine, self.back, strict=True)
        ):
            kept.append(self.act(distill(x)))
            refined = refine(x) + back(kept[-1])
            x = self.act(refined + x if stage else refined)  # the first stage changes the width
        kept.append(self.act(self.last(x)))
        return self.attention(self.fuse(torch.cat(kept, dim=1)))


class BMDN(FusionTrunk):
    """BMDBs, their outputs fused; ReLU throughout.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels between the blocks.
        inner: channels inside the blocks.
        depth: blocks.
        esa_width: channels inside the attention.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 40,
        inner: int = 20,
        depth: int = 4,
        esa_width: int = 10,
    ):
        blocks = (BMDB(width, inner, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks, act=nn.ReLU)
