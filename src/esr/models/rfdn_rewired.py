"""ARFDN (team HiImageTeam, NTIRE 2022): RFDN of asymmetric convolutions, densely added."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from esr.models.outlines import FusionTrunk
from esr.models.parts.gates import ESA
from esr.models.parts.layers import leaky_relu


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


# BMDN (team NWPU_SweetDreamLab, NTIRE 2022): RFDN at half width, the distilled part fed back.


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


# FasterRFDN (team TOVBU, NTIRE 2022): RFDN whose stages refine what was distilled.


class FasterRFDB(nn.Module):
    """Residual 3x3 stages of shrinking width.

    The first distilled part stands aside; every later one is itself what the next stage refines.

    Args:
        width: channels of the input and the output.
        distilled: channels kept at each stage.
        esa_width: channels inside the attention.
    """

    def __init__(self, width: int, distilled: Sequence[int], esa_width: int):
        super().__init__()
        inputs = [width, width, *distilled[1:-1]]
        stages = [width, *distilled[1:]]
        self.distill = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 1) for n_in, n_out in zip(inputs, distilled, strict=True)
        )
        self.refine = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1) for n in stages)
        self.last = nn.Conv2d(stages[-1], stages[-1], 3, padding=1)
        self.fuse = nn.Conv2d(sum(distilled) + stages[-1], width, 1)
        self.attention = ESA(width, esa_width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = []
        for stage, (distill, refine) in enumerate(zip(self.distill, self.refine, strict=True)):
            kept.append(self.act(distill(x)))
            x = kept[-1] if stage else x
            x = self.act(refine(x) + x)
        kept.append(self.act(self.last(x) + x))
        return self.attention(self.fuse(torch.cat(kept, dim=1)))


class FasterRFDN(FusionTrunk):
    """FasterRFDBs, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels between the blocks.
        depth: blocks.
        distilled: channels kept at each stage of a block.
        esa_width: channels inside the attention.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 64,
        depth: int = 4,
        distilled: Sequence[int] = (32, 32, 16),
        esa_width: int = 16,
    ):
        blocks = (FasterRFDB(width, distilled, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)


# RFDNeXt, team SSL (NTIRE 2022): RFDN with a ConvNeXt unit where its attention was.


class ConvNeXtUnit(nn.Module):
    """A depthwise 7x7 convolution, a wide pointwise pair and a skip (Liu et al., CVPR 2022).

    No norm, and LeakyReLU for GELU.

    Args:
        width: channels of the input and the output.
        expansion: channels between the pointwise convolutions per channel.
    """

    def __init__(self, width: int, expansion: int = 4):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.Conv2d(width, expansion * width, 1),
            leaky_relu(),
            nn.Conv2d(expansion * width, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        return self.convs(x) + x


class RFNeXtB(nn.Module):
    """A distillation block that narrows after its first stage and is linear up to the third.

    Args:
        width: channels of the input and the output.
        kept: channels kept at each stage, and of the later stages.
    """

    def __init__(self, width: int, kept: int):
        super().__init__()
        inputs = (width, kept, kept)
        self.distill = nn.ModuleList(nn.Conv2d(n, kept, 1) for n in inputs)
        self.refine = nn.ModuleList(nn.Conv2d(n, kept, 3, padding=1) for n in inputs)
        self.last = nn.Conv2d(kept, kept, 3, padding=1)
        self.fuse = nn.Conv2d(4 * kept, width, 1)
        self.unit = ConvNeXtUnit(width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = [self.distill[0](x)]
        # The first skip is from the distilled channels, as wide as the stage; then from its input.
        y = self.refine[0](x) + kept[0]
        for distill, refine in zip(self.distill[1:], self.refine[1:], strict=True):
            kept.append(distill(y))
            y = refine(y) + y
        kept.append(self.last(self.act(y)))
        return self.unit(self.fuse(self.act(torch.cat(kept, dim=1))))


class RFDNeXt(FusionTrunk):
    """Distillation blocks with a ConvNeXt unit each, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        kept: channels kept at each stage of a block.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 50,
        depth: int = 4,
        kept: int = 25,
    ):
        blocks = (RFNeXtB(width, kept) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
