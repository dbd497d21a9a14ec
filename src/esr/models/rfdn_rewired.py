"""Descendants of RFDN, all of NTIRE 2022, whose blocks wire the distillation otherwise."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Channels, DataRange, Depth, Expansion, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.distillation import DistillationBlock
from esr.models.parts.gates import ESA
from esr.models.parts.layers import leaky_relu, resize_like


class CrossedConv(nn.Module):
    """A 3x1 then 1x3 convolution plus a 1x3 then 3x1 one, activated in between."""

    def __init__(self, n_in: Channels, n_out: Channels):
        super().__init__()
        high = partial(nn.Conv2d, kernel_size=(3, 1), padding=(1, 0))
        wide = partial(nn.Conv2d, kernel_size=(1, 3), padding=(0, 1))
        self.vertical = nn.ModuleList([high(n_in, n_out), wide(n_out, n_out)])
        self.horizontal = nn.ModuleList([wide(n_in, n_out), high(n_out, n_out)])
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.vertical
        vertical = second(self.act(first(x)))
        first, second = self.horizontal
        return vertical + second(self.act(first(x)))


class ARFDB(DistillationBlock):
    """Three stages of crossed convolutions; each adds everything distilled so far."""

    def __init__(self, width: Channels, distilled: Channels, esa_width: Channels):
        super().__init__()
        inputs = (width, distilled, distilled)
        self.distill = nn.ModuleList(nn.Conv2d(n, distilled, 1) for n in inputs)
        self.refine = nn.ModuleList(CrossedConv(n, distilled) for n in inputs)
        self.last = nn.Conv2d(distilled, distilled, 3, padding=1)
        self.fuse = nn.Conv2d(4 * distilled, width, 1)
        self.attention = ESA(width, esa_width)
        self.act = leaky_relu()

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        refined = self.refine[i](x) + x if i else self.refine[i](x)  # the first changes the width
        for part in reversed(kept):
            refined = refined + part
        return self.act(refined)


class ARFDN(FusionTrunk):
    """RFDN of asymmetric convolutions, densely added; slope 0.1 after the fusion (HiImageTeam)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 50,
        depth: Depth = 4,
        distilled: Channels = 25,  # inside the blocks
        esa_width: Channels = 12,  # inside the attention
    ):
        blocks = (ARFDB(width, distilled, esa_width) for _ in range(depth))
        act = partial(nn.LeakyReLU, 0.1, inplace=True)
        super().__init__(scale, data_range, width, blocks, act=act)


class BMDB(DistillationBlock):
    """Each stage sums a 3x3 convolution of its input and one of what was distilled from it."""

    def __init__(self, width: Channels, inner: Channels, esa_width: Channels):
        super().__init__()
        inputs = (width, inner, inner)
        self.distill = nn.ModuleList(nn.Conv2d(n, inner, 1) for n in inputs)
        self.refine = nn.ModuleList(nn.Conv2d(n, inner, 3, padding=1) for n in inputs)
        self.back = nn.ModuleList(nn.Conv2d(inner, inner, 3, padding=1) for _ in inputs)
        self.last = nn.Conv2d(inner, inner, 3, padding=1)
        self.fuse = nn.Conv2d(4 * inner, width, 1)
        self.attention = ESA(width, esa_width)
        self.act = nn.ReLU(inplace=True)

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        refined = self.refine[i](x) + self.back[i](kept[-1])
        return self.act(refined + x if i else refined)  # the first stage changes the width


class BMDN(FusionTrunk):
    """RFDN at half width, the distilled part fed back; all ReLU (NWPU_SweetDreamLab)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 40,
        inner: Channels = 20,  # inside the blocks
        depth: Depth = 4,
        esa_width: Channels = 10,  # inside the attention
    ):
        blocks = (BMDB(width, inner, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks, act=nn.ReLU)


class FasterRFDB(DistillationBlock):
    """Residual 3x3 stages of shrinking width.

    The first distilled part stands aside; every later one is itself what the next stage refines.
    """

    def __init__(self, width: Channels, distilled: Sequence[Channels], esa_width: Channels):
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

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        return super().stage(i, kept[-1] if i else x, kept)

    def end(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.last(x) + x)


class FasterRFDN(FusionTrunk):
    """RFDN whose stages refine what was distilled (TOVBU)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 64,
        depth: Depth = 4,
        distilled: Sequence[Channels] = (32, 32, 16),  # kept at each stage
        esa_width: Channels = 16,  # inside the attention
    ):
        blocks = (FasterRFDB(width, distilled, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)


class ConvNeXtUnit(nn.Module):
    """A depthwise 7x7 convolution, a wide pointwise pair and a skip (Liu et al., CVPR 2022)."""

    def __init__(self, width: Channels, expansion: Expansion = 4):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.Conv2d(width, expansion * width, 1),
            leaky_relu(),  # GELU in the paper, which has a norm, too
            nn.Conv2d(expansion * width, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x) + x


class RFNeXtB(nn.Module):
    """A distillation block that narrows after its first stage and is linear up to the third."""

    def __init__(self, width: Channels, kept: Channels):  # `kept` is the later stages' width, too
        super().__init__()
        inputs = (width, kept, kept)
        self.distill = nn.ModuleList(nn.Conv2d(n, kept, 1) for n in inputs)
        self.refine = nn.ModuleList(nn.Conv2d(n, kept, 3, padding=1) for n in inputs)
        self.last = nn.Conv2d(kept, kept, 3, padding=1)
        self.fuse = nn.Conv2d(4 * kept, width, 1)
        self.unit = ConvNeXtUnit(width)
        self.act = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        for i, (distill, refine) in enumerate(zip(self.distill, self.refine, strict=True)):
            kept.append(distill(x))
            # The first skip is from the distilled channels, as wide as the stage.
            x = refine(x) + (x if i else kept[0])
        kept.append(self.last(self.act(x)))
        return self.unit(self.fuse(self.act(torch.cat(kept, dim=1))))


class RFDNeXt(FusionTrunk):
    """RFDN with a ConvNeXt unit where its attention was (SSL)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 50,
        depth: Depth = 4,
        kept: Channels = 25,  # at each stage of a block
    ):
        super().__init__(scale, data_range, width, (RFNeXtB(width, kept) for _ in range(depth)))


class LaplacianAttention(nn.Module):
    """A mask from the differences between the levels of a pyramid; the finest one is kept, too."""

    min_size = 8

    def __init__(self, channels: Channels, width: Channels):  # of the pyramid
        super().__init__()
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.excite = nn.Conv2d(3 * width, channels, 1)
        self.join = nn.Conv2d(channels + width, channels, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        level = self.act(self.squeeze(x))
        details = []
        for conv in self.down:
            coarser = self.act(conv(F.max_pool2d(level, 2)))
            details.append(level - resize_like(coarser, level))
            level = coarser
        pyramid = torch.cat([resize_like(detail, x) for detail in details], dim=1)
        return self.join(torch.cat((x * self.excite(pyramid).sigmoid(), details[0]), dim=1))


class FDEB(DistillationBlock):
    """Distil channels before each wide pointwise stage; no activation after the stages' skips."""

    def __init__(self, width: Channels, kept: Channels, expansion: int, attention_width: Channels):
        super().__init__()
        hidden = expansion * width
        self.distill = nn.ModuleList(nn.Conv2d(width, kept, 1, bias=False) for _ in range(3))
        self.refine = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, hidden, 1),
                leaky_relu(),
                nn.Conv2d(hidden, width, 1),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(3)
        )
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.fuse = nn.Conv2d(3 * kept + width, width, 1)
        self.attention = LaplacianAttention(width, attention_width)
        self.act = leaky_relu()

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        return self.refine[i](x) + x

    def end(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x)


class FDEN(FusionTrunk):
    """Wide pointwise stages and attention on a Laplacian pyramid, outputs fused (NJU_MCG)."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 29,
        depth: Depth = 4,
        kept: Channels = 14,  # before each stage of a block
        expansion: Expansion = 5,  # inside a stage
        attention_width: Channels = 7,  # of the attention's pyramid
    ):
        blocks = (FDEB(width, kept, expansion, attention_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
