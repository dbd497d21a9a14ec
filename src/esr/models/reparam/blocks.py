"""The blocks of the literature: train wide, deploy plain. Each says which branches it is made of.

`conv=NAME` puts one in the place of a network's convolutions. All take the arguments of `nn.Conv2d`
first, by position or name (padding must keep the size), and refuse with a `UserError` what they
could not merge exactly. `identity` adds the input where shapes allow; `collapsed` trains through
the merged kernel, see `Block`.
"""

from dataclasses import replace
from typing import Any, Unpack

from esr.models.reparam.block import Block
from esr.models.reparam.branches import Chain, Conv, Edge, Identity, LowRank, NormChain
from esr.models.reparam.geometry import BlockOptions, ConvOptions


class ACB(Block):
    """k x k + 1 x k + k x 1, each with its own BatchNorm as in the paper (ACNet, ICCV 2019).

    Asymmetric convolutions strengthen a square kernel's skeleton.
    """

    kernels = (3, 5, 7)

    def __init__(self, *conv: Any, batch_norm: bool = True, **options: Unpack[ConvOptions]):
        super().__init__(*conv, **options, batch_norm=batch_norm)
        rows, cols = self.shape.kernel_size
        self.branches["conv"] = Conv(self.shape, norm=batch_norm)
        self.branches["horizontal"] = Conv(self.shape, (1, cols), batch_norm)
        self.branches["vertical"] = Conv(self.shape, (rows, 1), batch_norm)


class CollapsibleLinear(Block):
    """(k x k -> 1x1) + input: SESR's, MLSys 2022; also of VAP's network in NTIRE 2022."""

    def __init__(
        self,
        *conv: Any,
        mid_channels: int = 256,  # in the middle; the paper's 256
        identity: bool = True,
        **options: Unpack[BlockOptions],
    ):
        super().__init__(*conv, **options)
        groups = self.shape.groups
        middle = -(-mid_channels // groups) * groups  # rounded up to a multiple of the groups
        self.branches["chain"] = Chain(self.shape, reduce=middle)
        if identity and self.shape.keeps_shape:
            self.branches["identity"] = Identity(self.shape)


class Conv3XC(Block):
    """(1x1 -> k x k -> 1x1) + 1x1, `gain` times as wide inside: SPAN's, NTIRE 2023 and 2024."""

    def __init__(self, *conv: Any, gain: int = 2, **options: Unpack[BlockOptions]):
        super().__init__(*conv, **options)
        wide, narrow = gain * self.shape.in_channels, gain * self.shape.out_channels
        self.branches["chain"] = Chain(self.shape, expand=wide, reduce=narrow)
        self.branches["skip"] = Conv(self.shape, (1, 1))


class ConvLoRA(Block):
    """A convolution with the kernel W + (alpha / rank) * B A, as in DSCF, NTIRE 2025.

    The low-rank update is added to the kernel before convolving, so a step costs what a plain one
    costs. B starts at zero: fine-tuning from deploy weights starts at exactly that network.
    """

    def __init__(
        self,
        *conv: Any,
        rank: int = 4,  # of the update, in units of the kernel's rows: A is rank*k x in*k
        alpha: float = 1.0,  # scale of the update
        freeze: bool = True,  # W and its bias; only sensible when they come from trained weights
        **options: Unpack[ConvOptions],
    ):
        super().__init__(*conv, **options, collapsed=True)
        self.branches["conv"] = Conv(self.shape).requires_grad_(not freeze)
        self.branches["low_rank"] = LowRank(self.shape, rank, alpha)


class DBB(Block):
    """k x k + 1x1 + (1x1 -> k x k) + (1x1 -> average pooling), all with BatchNorm.

    Diverse branch block, Ding et al., CVPR 2021. For a 1x1 kernel the first two alone.
    """

    dilated = False

    def __init__(self, *conv: Any, **options: Unpack[ConvOptions]):
        super().__init__(*conv, **options, batch_norm=True)
        self.branches["conv"] = Conv(self.shape, norm=True)
        self.branches["point"] = Conv(self.shape, (1, 1), norm=True)
        if self.shape.kernel_size != (1, 1):
            self.branches["expand"] = NormChain(self.shape)
            self.branches["pool"] = NormChain(self.shape, pool=True)


EDGES = {
    "sobel_x": ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    "sobel_y": ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
    "laplacian": ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0)),
}
"""The filters of ECBSR's edge branches, by the names of these branches."""


class EdgeBlock(Block):
    """A 3x3 block that ends in the three edge branches and, if wanted and possible, the input."""

    kernels = (3,)

    def add_edges(self, identity: bool) -> None:
        """Add these branches; the others come first."""
        for name, mask in EDGES.items():
            self.branches[name] = Edge(self.shape, mask)
        if identity and self.shape.keeps_shape:
            self.branches["identity"] = Identity(self.shape)


class ECB(EdgeBlock):
    """3x3 + (1x1 -> 3x3) + three (1x1 -> scaled Sobel-x, Sobel-y, Laplacian) [+ input].

    Edge-oriented convolution block: ECBSR's, ACM MM 2021; also of NEESR's network in NTIRE 2022.
    """

    def __init__(
        self,
        *conv: Any,
        depth_multiplier: float = 2.0,  # width of the second branch in units of out_channels
        identity: bool = False,  # the released configurations have none
        **options: Unpack[BlockOptions],
    ):
        super().__init__(*conv, **options)
        wide = int(self.shape.out_channels * depth_multiplier)
        self.branches["conv"] = Conv(self.shape)
        self.branches["expand"] = Chain(self.shape, expand=wide)
        self.add_edges(identity)


class EDBB(EdgeBlock):
    """ECB + 1x1 + input: seven branches.

    Edge-enhanced diverse branch block: EFDN's, NKU-ESR's network in NTIRE 2022.
    """

    def __init__(
        self,
        *conv: Any,
        depth_multiplier: float = 2.0,  # width of the 1x1 -> 3x3 branch in units of out_channels
        identity: bool = True,
        **options: Unpack[BlockOptions],
    ):
        super().__init__(*conv, **options)
        wide = int(self.shape.out_channels * depth_multiplier)
        self.branches["conv"] = Conv(self.shape)
        self.branches["point"] = Conv(self.shape, (1, 1))
        self.branches["expand"] = Chain(self.shape, expand=wide)
        self.add_edges(identity)


class RepRFNBlock(EdgeBlock):
    """3x3 + 1x3 + 3x1 + 1x1 + (1x1 -> 3x3) + three edge branches + input: RepRFN's.

    CUC_SR, NTIRE 2023; nine branches without BatchNorm. The team's factsheet shows the block only
    as a figure with Sobel, Laplacian and residual branches. The rest (1x3, 3x1, 1x1, and a
    1x1 -> 3x3 of twice the input's width without biases) is taken from a public re-implementation
    and is an assumption.
    """

    def __init__(self, *conv: Any, identity: bool = True, **options: Unpack[BlockOptions]):
        super().__init__(*conv, **options)
        unbiased, wide = replace(self.shape, bias=False), 2 * self.shape.in_channels
        self.branches["conv"] = Conv(self.shape)
        self.branches["horizontal"] = Conv(self.shape, (1, 3))
        self.branches["vertical"] = Conv(self.shape, (3, 1))
        self.branches["point"] = Conv(self.shape, (1, 1))
        self.branches["expand"] = Chain(unbiased, expand=wide)
        self.add_edges(identity)


class RepVGG(Block):
    """k x k + 1x1 + input, each with its own BatchNorm (Ding et al., CVPR 2021)."""

    def __init__(
        self,
        *conv: Any,
        # As in the paper. Without it the branches have biases, which is usual in super-resolution,
        # where BatchNorm costs quality.
        batch_norm: bool = True,
        identity: bool = True,
        **options: Unpack[ConvOptions],
    ):
        super().__init__(*conv, **options, batch_norm=batch_norm)
        self.branches["conv"] = Conv(self.shape, norm=batch_norm)
        self.branches["point"] = Conv(self.shape, (1, 1), batch_norm)
        if identity and self.shape.keeps_shape:
            self.branches["identity"] = Identity(self.shape, batch_norm)


class RepConv(RepVGG):
    """k x k + 1x1, each with its own BatchNorm: YOLOv7's; also called RepConvN."""

    def __init__(self, *conv: Any, **options: Unpack[ConvOptions]):
        super().__init__(*conv, **options, identity=False)


class ResidualConv(Block):
    """k x k + input; a plain convolution where the shapes differ.

    The skip disappears into the kernel's centre when merged: NTU607QCO's and MegSR's RFDN variants
    (NTIRE 2022) deploy the residual 3x3s of RFDN this way.
    """

    def __init__(self, *conv: Any, **options: Unpack[ConvOptions]):
        super().__init__(*conv, **options)
        self.branches["conv"] = Conv(self.shape)
        if self.shape.keeps_shape:
            self.branches["identity"] = Identity(self.shape)


class RRRB(Block):
    """(1x1 -> [k x k + skip] -> 1x1) + input: FMEN's, NJU_Jet's network in NTIRE 2022.

    Residual in residual re-parameterisable block. The paper's blocks have equal widths on both
    sides; elsewhere the outer skip is left out. The middle is `ratio` times as wide as the wider.
    """

    strided = False

    def __init__(self, *conv: Any, ratio: int = 2, **options: Unpack[BlockOptions]):
        super().__init__(*conv, **options)
        middle = ratio * max(self.shape.in_channels, self.shape.out_channels)
        self.branches["chain"] = Chain(self.shape, expand=middle, reduce=middle, skip=True)
        if self.shape.keeps_shape:
            self.branches["identity"] = Identity(self.shape)


class ThreeBranch(Block):
    """3x3 + two (1x1 -> 3x3), `multipliers` of in_channels wide: IMDN+'s, rainbow in NTIRE 2022."""

    def __init__(
        self, *conv: Any, multipliers: tuple[int, int] = (2, 4), **options: Unpack[BlockOptions]
    ):
        super().__init__(*conv, **options)
        narrow, wide = (m * self.shape.in_channels for m in multipliers)  # 72 and 144 for 36
        self.branches["conv"] = Conv(self.shape)
        self.branches["expand"] = Chain(self.shape, expand=narrow)
        self.branches["expand_more"] = Chain(self.shape, expand=wide)
