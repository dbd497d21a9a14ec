"""MSDN (team VMCL_Taobao, NTIRE 2022): distillation at growing receptive fields.

The attention borrows the large kernels of VAN (Guo et al., 2022), on a pooled map.
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from esr.models.esa import ContextGate
from esr.models.layers import Activation
from esr.models.rfdb import RFDB
from esr.models.trunks import FusionTrunk

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
