"""BSRN and LKDN: RFDN of separable convolutions, for the complexity of NTIRE 2022 and 2023."""

import torch
from torch import nn

from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Even, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.distillation import RFDB, DistillationBlock
from esr.models.parts.gates import ContextGate, PooledContext
from esr.models.parts.layers import BSConv, ChannelNorm, PointwiseGELU, PointwiseLinear


class BSDB(RFDB):
    """An RFDB of separable convolutions, then a weight per channel, a 1x1 convolution, a skip."""

    def __init__(self, width: Channels, distilled: Channels, esa_width: Channels):
        context = PooledContext(esa_width, conv=BSConv, act=PointwiseGELU)
        attention = ContextGate(width, esa_width, context, pointwise=PointwiseLinear)
        super().__init__(
            width, distilled, attention, act=PointwiseGELU, conv=BSConv, pointwise=PointwiseLinear
        )
        self.channel_weight = nn.Parameter(torch.ones(1, width))
        self.out = PointwiseLinear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(super().forward(x) * self.channel_weight[..., None, None]) + x


class BSRN(FusionTrunk):
    """Separable RFDBs, their outputs fused; the image enters four times side by side.

    Blueprint separable residual network (team XPixel, first in complexity of NTIRE 2022), Li et
    al., CVPR 2022 workshops. The entry (BSRN-S) has a learnt weight per channel where the paper has
    contrast-aware channel attention.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 48,
        depth: Depth = 5,
        distilled: Channels = 24,  # kept at each stage of a block
        esa_width: Channels = 12,  # inside the attention
    ):
        blocks = (BSDB(width, distilled, esa_width) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks, PointwiseGELU, BSConv, in_channels=12)
        self.fuse = PointwiseLinear(depth * width, width)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return super().body(x.repeat(1, 4, 1, 1))


class SeparableConv(nn.Module):
    """A 1x1 convolution without bias, then a depthwise one, with the arguments of `nn.Conv2d`."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int = 3, padding: int = 1):
        super().__init__()
        self.pointwise = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.depthwise = nn.Conv2d(n_out, n_out, kernel_size, padding=padding, groups=n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.depthwise(self.pointwise(x))


class SeparableConvRep(SeparableConv):
    """The training form: `x + P x`, then depthwise 3x3, depthwise 1x1 and identity, added up.

    Input and output are equally wide. The identity of the first half is inside the padding of the
    second, so merging is exact.
    """

    def __init__(self, n_in: int, n_out: int, kernel_size: int = 3, padding: int = 1):
        super().__init__(n_in, n_out, kernel_size, padding)
        self.beside = nn.Conv2d(n_out, n_out, 1, groups=n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.pointwise(x)
        return self.depthwise(x) + self.beside(x) + x

    @torch.no_grad()
    def fuse(self) -> SeparableConv:
        """The plain separable convolution of the same function."""
        width, size = self.depthwise.out_channels, self.depthwise.kernel_size[0]
        twin = SeparableConv(width, width, size, size // 2).to(self.pointwise.weight)
        pointwise = self.pointwise.weight.double().clone()
        pointwise += torch.eye(width, device=pointwise.device)[:, :, None, None]
        depthwise = self.depthwise.weight.double().clone()
        depthwise[:, :, size // 2, size // 2] += self.beside.weight.double()[:, :, 0, 0] + 1
        twin.pointwise.weight.copy_(pointwise)
        twin.depthwise.weight.copy_(depthwise)
        twin.depthwise.bias.copy_(self.depthwise.bias + self.beside.bias)  # type: ignore[operator,union-attr]
        return twin


class LargeKernelAttention(nn.Module):
    """The features times a linear mixture of 17x17 pixels; LKDN has no other gate."""

    def __init__(self, width: Channels):
        super().__init__()
        self.mixture = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.Conv2d(width, width, 5, padding=2, groups=width),
            nn.Conv2d(width, width, 5, padding=6, groups=width, dilation=3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.mixture(x)


class LKDB(DistillationBlock):
    """Distil half the channels before each of three stages, fuse, attend, normalise, add."""

    def __init__(self, width: Channels, conv: ConvFactory):
        super().__init__()
        kept = width // 2
        self.distill = nn.ModuleList(nn.Conv2d(width, kept, 1) for _ in range(3))
        self.refine = nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(3))
        self.last = SeparableConv(width, kept)
        self.fuse = nn.Conv2d(4 * kept, width, 1)
        self.attention = LargeKernelAttention(width)
        self.out = nn.Conv2d(width, width, 1)
        self.norm = ChannelNorm(width)
        nn.init.constant_(self.norm.weight, 0.1)
        self.act = nn.GELU()

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        return self.act(self.refine[i](x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.out(super().forward(x))) + x


class LKDN(FusionTrunk):
    """Large-kernel distillation blocks in BSRN's outline (LKDN-S, complexity sub-track of 2023).

    Xie et al., CVPR 2023 workshops. While it trains, each separable convolution has identities
    around both halves and a 1x1 beside the depthwise one.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Even = 42,
        depth: Depth = 5,
        conv: ConvFactory = SeparableConv,  # of the stages; `SeparableConvRep` is the training form
    ):
        blocks = (LKDB(width, conv) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks, nn.GELU, SeparableConv, in_channels=12)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return super().body(x.repeat(1, 4, 1, 1))
