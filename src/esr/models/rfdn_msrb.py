"""RFDN-MSRB, team Set5baby (NTIRE 2022): RFDN with depthwise stages and an unshuffled attention."""

import torch
import torch.nn.functional as F
from torch import nn

from esr.models.esa import ContextGate
from esr.models.rfdb import RFDB
from esr.models.trunks import FusionTrunk


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
