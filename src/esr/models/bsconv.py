"""Blueprint separable convolution (BSConv-U): a 1x1 convolution, then a depthwise one.

Haase and Amthor, CVPR 2020. The 1x1 convolution is a linear layer over the channels, as in BSRN's
challenge entry: the same arithmetic, but the challenge counts neither its activations nor it as a
convolution, and its FLOPs wrongly.
"""

import torch
from torch import nn


class PointwiseLinear(nn.Linear):
    """A 1x1 convolution in the form of a linear layer, with the arguments of `nn.Conv2d`."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int = 1):
        super().__init__(n_in, n_out)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, n_in, H, W) -> (N, n_out, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PointwiseGELU(nn.GELU):
    """GELU of maps whose channels lie side by side in memory, as `PointwiseLinear` leaves them.

    On a CPU it is half as fast again on the view in which they are contiguous.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class BSConv(nn.Module):
    """A `PointwiseLinear`, then a depthwise convolution, with the arguments of `nn.Conv2d`."""

    def __init__(self, n_in: int, n_out: int, kernel_size: int = 3, padding: int = 1):
        super().__init__()
        self.pointwise = PointwiseLinear(n_in, n_out)
        self.depthwise = nn.Conv2d(n_out, n_out, kernel_size, padding=padding, groups=n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, n_in, H, W) -> (N, n_out, H, W)."""
        return self.depthwise(self.pointwise(x))
