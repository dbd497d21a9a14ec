"""The residual feature distillation block (RFDB).

RFDN, Liu et al., ECCV 2020 workshops (winner of AIM 2020 Efficient SR).
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.arguments import Activation, ConvFactory
from esr.models.outlines import FusionTrunk, SeriesTrunk
from esr.models.parts.gates import ESA, BranchedContext, ContextGate, HalvesGate, PixelAttention
from esr.models.parts.layers import leaky_relu, per_block, pixel_shuffle_tail, steps


class RFDB(nn.Module):
    """Distil a few channels before each 3x3 stage, concatenate what was distilled, gate it.

    There is no skip around the block: the identity lies inside each stage (`residual`). Entries
    that merged it into the kernels after training have `residual=False`.

    Args:
        width: channels of the input and the output.
        distilled: channels kept at each stage.
        attention: gate on the output, (N, width, H, W) to the same shape.
        dilations: dilation of each 3x3 stage; their number is the number of stages.
        residual: add each stage's input to its convolution before the activation.
        act: makes the activation.
        conv: makes the 3x3 convolutions.
        pointwise: makes the 1x1 convolutions.
    """

    def __init__(
        self,
        width: int,
        distilled: int,
        attention: nn.Module,
        dilations: Sequence[int] = (1, 1, 1),
        residual: bool = True,
        act: Activation = leaky_relu,
        conv: ConvFactory = nn.Conv2d,
        pointwise: ConvFactory = nn.Conv2d,
    ):
        super().__init__()
        self.residual = residual
        self.distill = nn.ModuleList(pointwise(width, distilled, 1) for _ in dilations)
        self.refine = nn.ModuleList(
            # Not every re-parameterised block knows `dilation`, so the usual 1 is not spelled out.
            conv(width, width, 3, padding=1)
            if d == 1
            else conv(width, width, 3, padding=d, dilation=d)
            for d in dilations
        )
        self.last = conv(width, distilled, 3, padding=1)
        self.fuse = pointwise((len(dilations) + 1) * distilled, width, 1)
        self.attention = attention
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> the same shape."""
        kept = []
        for distill, refine in zip(self.distill, self.refine, strict=True):
            kept.append(self.act(distill(x)))
            x = self.act(refine(x) + x if self.residual else refine(x))
        kept.append(self.act(self.last(x)))
        return self.attention(self.fuse(torch.cat(kept, dim=1)))


# RFDN: residual feature distillation network, the baseline of NTIRE 2022 and 2023.
#
# Liu et al., ECCV 2020 workshops. The defaults are the winner of AIM 2020 Efficient SR (4 blocks,
# 50 channels), which is what everybody compares with; the paper's own network has 6 blocks.


class RFDN(FusionTrunk):
    """Residual feature distillation blocks, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        distilled: channels kept at each stage of a block, one number or one a block.
        esa_width: channels inside the attention.
        esa_skip: the 1x1 convolution on the attention's skip.
        dilations: see `RFDB`.
        residual: see `RFDB`; False once the identity has been merged into the kernels.
        conv: makes the 3x3 convolutions of the blocks.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 50,
        depth: int = 4,
        distilled: int | Sequence[int] = 25,
        esa_width: int = 12,
        esa_skip: bool = True,
        dilations: Sequence[int] = (1, 1, 1),
        residual: bool = True,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (
            RFDB(
                width,
                kept,
                ESA(width, esa_width, skip=esa_skip),
                dilations,
                residual,
                conv=conv,
            )
            for kept in per_block(distilled, depth, "distilled")
        )
        super().__init__(scale, data_range, width, blocks)


# AFDN (team NJUST_RESTORARION, NTIRE 2022): RFDN without biases, its ESA replaced by a gate.


class AFDN(FusionTrunk):
    """RFDBs with a gate at full resolution; biases only in the gate and in the fusion.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, even.
        depth: blocks.
        distilled: channels kept at each stage of a block.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 255.0,
        width: int = 46,
        depth: int = 4,
        distilled: int = 23,
    ):
        conv = partial(nn.Conv2d, bias=False)
        blocks = (
            RFDB(width, distilled, HalvesGate(width), conv=conv, pointwise=conv)
            for _ in range(depth)
        )
        tail = pixel_shuffle_tail(width, scale, bias=False)
        super().__init__(scale, data_range, width, blocks, conv=conv, tail=tail)


# CLRFDN (team VAP, NTIRE 2022): a narrow RFDN of collapsible linear blocks, fastest of the table.
#
# Collapsible linear blocks are those of SESR (Bhardwaj et al., MLSys 2022); merged, they are 3x3
# convolutions.


class CLRFDN(FusionTrunk):
    """RFDBs with SiLU, fused, without a 3x3 convolution before the long skip.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        distilled: channels kept at each stage of a block.
        esa_width: channels inside the attention.
        conv: makes the 3x3 convolutions of the head and the blocks.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 255.0,
        width: int = 32,
        depth: int = 4,
        distilled: int = 16,
        esa_width: int = 8,
        conv: ConvFactory = nn.Conv2d,
    ):
        silu = partial(nn.SiLU, inplace=True)
        blocks = [
            RFDB(width, distilled, ESA(width, esa_width), residual=False, act=silu, conv=conv)
            for _ in range(depth)
        ]
        for block in blocks:  # the released network activates this one twice
            block.last = nn.Sequential(block.last, silu())
        super().__init__(scale, data_range, width, blocks, act=nn.PReLU, conv=conv)
        self.trunk = nn.Identity()


# PlainRFDN (team NEESR's EFDN, NTIRE 2022): RFDN without the fusion of its blocks.


class PlainRFDN(SeriesTrunk):
    """RFDBs in series; an ESA that pools without a strided convolution.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        distilled: channels kept at each stage of a block.
        esa_width: channels inside the attention.
        conv: makes the 3x3 convolutions of the blocks.
    """

    min_size = BranchedContext.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 255.0,
        width: int = 42,
        depth: int = 4,
        distilled: int = 10,
        esa_width: int = 10,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (
            RFDB(
                width,
                distilled,
                ContextGate(width, esa_width, BranchedContext(esa_width)),
                residual=False,
                conv=conv,
            )
            for _ in range(depth)
        )
        super().__init__(scale, data_range, width, blocks)


# RePAFDN (team Super, NTIRE 2022): RFDN with two-stage blocks, and pixel attention at the end.


class RePAFDN(FusionTrunk):
    """RFDBs of different depth, fused, then pixel attention before the long skip.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        stages: 3x3 stages of each block.
        distilled: channels kept at each stage, for each block.
        esa_width: channels inside the attention.
        conv: makes the 3x3 convolutions of the blocks.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 48,
        stages: Sequence[int] = (2, 2, 2, 3),
        distilled: Sequence[int] = (24, 24, 24, 12),
        esa_width: int = 12,
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (
            RFDB(width, kept, ESA(width, esa_width), [1] * count, residual=False, conv=conv)
            for count, kept in zip(stages, distilled, strict=True)
        )
        super().__init__(scale, data_range, width, blocks)
        self.trunk = nn.Sequential(self.trunk, PixelAttention(width))


# MSDN (team VMCL_Taobao, NTIRE 2022): distillation at growing receptive fields.
#
# The attention borrows the large kernels of VAN (Guo et al., 2022), on a pooled map.


silu: Activation = partial(nn.SiLU, inplace=True)


def large_kernel_context(width: int, stride: int) -> nn.Sequential:
    """Max pooling by `stride`, then a kernel of 23x23 made of a 7x7 (dilated), a 5x5 and a 1x1.

    The input has at least 2 * stride + 1 pixels a side.
    """
    return nn.Sequential(
        nn.MaxPool2d(2 * stride + 1, stride),
        nn.GELU(),
        nn.Conv2d(width, width, 7, padding=9, dilation=3, groups=width),
        nn.Conv2d(width, width, 5, padding=2, groups=width),
        nn.Conv2d(width, width, 1),
    )


class MSDB(RFDB):
    """A two-stage RFDB without the inner identity; the first stage widens, the last is dilated.

    Args:
        width: channels of the input and the output.
        distilled: channels kept at each stage.
        attention: gate on the output.
    """

    def __init__(self, width: int, distilled: int, attention: nn.Module):
        super().__init__(width, distilled, attention, (1, 1), residual=False, act=silu)
        self.refine[0] = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1),
            silu(),
            nn.Conv2d(2 * width, width, 3, padding=1, groups=2),
        )
        self.last = nn.Conv2d(width, distilled, 3, padding=2, dilation=2)


class MSDN(FusionTrunk):
    """MSDBs whose attentions pool less and less, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels, even.
        distilled: channels kept at each stage of a block.
        strides: pooling of each block's attention; one block per element.
        attention_width: channels inside the attention.
    """

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 255.0,
        width: int = 56,
        distilled: int = 28,
        strides: Sequence[int] = (4, 3, 2),
        attention_width: int = 7,
    ):
        blocks = (
            MSDB(
                width,
                distilled,
                ContextGate(
                    width, attention_width, large_kernel_context(attention_width, s), skip=False
                ),
            )
            for s in strides
        )
        super().__init__(scale, data_range, width, blocks, act=silu)
        self.min_size = 2 * max(strides) + 1


# m_RFDN, team Multicog (NTIRE 2022): RFDN of multiceptions, with BatchNorm at inference.


class Multiception(nn.Module):
    """Depthwise convolutions of several sizes side by side, then a 1x1; BatchNorm after both.

    Depthwise multiception convolution, Bao et al. 2020, with the arguments of `nn.Conv2d`.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel_size: 1 for depthwise 1x1 convolutions alone, 3 for 1x1, 3x3 and 5x5.
        padding: as for a convolution that keeps the size; the sizes are padded accordingly.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int = 0):
        super().__init__()
        sizes = range(1, kernel_size + 3, 2) if kernel_size > 1 else (1,)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(inputs, inputs, size, padding=size // 2, groups=inputs) for size in sizes
        )
        self.norm1 = nn.BatchNorm2d(len(sizes) * inputs)
        self.pointwise = nn.Conv2d(len(sizes) * inputs, outputs, 1)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y = torch.cat([conv(x) for conv in self.depthwise], dim=1)
        return self.norm2(self.pointwise(self.norm1(y)))


class MultiRFDB(RFDB):
    """An `RFDB` of multiceptions; the fusion is an ordinary convolution."""

    def __init__(self, width: int, kept: int, esa_width: int):
        attention = ESA(width, esa_width)
        super().__init__(width, kept, attention, conv=Multiception, pointwise=Multiception)
        self.fuse = nn.Conv2d(4 * kept, width, 1)


def attended_tail(width: int, inner: int, scale: int) -> nn.Sequential:
    """Nearest-neighbour upsampling in steps, each with a convolution, pixel attention, another.

    PAN's upsampler. (N, width, H, W) -> (N, 3, scale*H, scale*W); `inner` channels after step one.
    """
    layers: list[nn.Module] = []
    for step in steps(scale):
        layers += [
            nn.Upsample(scale_factor=step, mode="nearest"),
            nn.Conv2d(width, width, 3, padding=1),
            PixelAttention(width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, inner, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width = inner
    return nn.Sequential(*layers, nn.Conv2d(inner, 3, 3, padding=1))


class MRFDN(FusionTrunk):
    """Distillation blocks of multiceptions, their outputs fused, with PAN's upsampler.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        kept: channels kept at each stage of a block.
        esa_width: channels inside the attention.
        tail_width: channels while upsampling.
    """

    min_size = ESA.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 52,
        depth: int = 4,
        kept: int = 26,
        esa_width: int = 13,
        tail_width: int = 24,
    ):
        blocks = (MultiRFDB(width, kept, esa_width) for _ in range(depth))
        tail = attended_tail(width, tail_width, scale)
        super().__init__(scale, data_range, width, blocks, tail=tail)


# RFDN-MSRB, team Set5baby (NTIRE 2022): RFDN with depthwise stages and an unshuffled attention.


class DepthwiseResidual(nn.Module):
    """Add a depthwise 3x3 convolution to its input, then a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return self.pointwise(x + self.depthwise(x))


class DepthwisePair(nn.Sequential):
    """Two `DepthwiseResidual`s with ReLU between, with the arguments of `nn.Conv2d`.

    Raises:
        ValueError: the kernel is not 3x3 with padding 1, the only one there is.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3, padding: int = 1):
        if (kernel_size, padding) != (3, 1):
            raise ValueError(f"kernel 3 with padding 1 only, got {kernel_size} with {padding}")
        super().__init__(
            DepthwiseResidual(inputs, outputs),
            nn.ReLU(inplace=True),
            DepthwiseResidual(outputs, outputs),
        )


class UnshuffledContext(nn.Module):
    """Pixel unshuffle by 2 in place of a strided convolution, 7x7 max pooling, one convolution.

    Args:
        width: channels of the input and the output.
    """

    min_size = 14

    def __init__(self, width: int):
        super().__init__()
        # A 1x1 convolution *with padding*: the map grows by a border of act(bias), as published.
        self.conv = nn.Conv2d(4 * width, width, 1, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, width, H, W) -> (N, width, h, w), about a sixth of the side."""
        height, width = (side // 2 * 2 for side in x.shape[2:])  # the last odd row is dropped
        x = F.pixel_unshuffle(x[..., :height, :width], 2)
        return self.act(self.conv(self.act(F.max_pool2d(x, kernel_size=7, stride=3))))


class DepthwiseRFDB(RFDB):
    """An `RFDB` of depthwise stages whose last convolution is an ordinary one."""

    def __init__(self, width: int, kept: int, attention_width: int):
        attention = ContextGate(width, attention_width, UnshuffledContext(attention_width))
        super().__init__(width, kept, attention, conv=DepthwisePair)
        self.last = nn.Conv2d(width, kept, 3, padding=1)


class RFDNMSRB(FusionTrunk):
    """Depthwise distillation blocks, their outputs fused.

    Args:
        scale: upscaling factor.
        data_range: value range of the weights, 1 or 255.
        width: channels.
        depth: blocks.
        kept: channels kept at each stage of a block.
        attention_width: channels inside the attention.
    """

    min_size = UnshuffledContext.min_size

    def __init__(
        self,
        scale: int = 4,
        data_range: float = 1.0,
        width: int = 50,
        depth: int = 4,
        kept: int = 25,
        attention_width: int = 12,
    ):
        blocks = (DepthwiseRFDB(width, kept, attention_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
