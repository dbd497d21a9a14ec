"""Losses on edges: filtered differences, the variance of gradients, and smoothness.

All filters are depthwise 3x3 with zero padding, in units of the image's range [0, 1].
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esr.errors import UserError
from esr.losses.arguments import Weight
from esr.losses.weighted import Loss

SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
SOBEL_Y = tuple(zip(*SOBEL_X, strict=True))
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
GREY = (0.2989, 0.5870, 0.1140)


class Filters(nn.Module):
    """Several 3x3 filters on every channel: (N, C, H, W) -> (N, C * filters, H, W).

    The responses of one channel lie side by side.
    """

    kernels: Tensor

    def __init__(self, *kernels: tuple[tuple[float, ...], ...]):
        super().__init__()
        self.register_buffer("kernels", torch.tensor(kernels)[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernels = self.kernels.to(x.dtype).repeat(channels, 1, 1, 1)
        return F.conv2d(x, kernels, padding=1, groups=channels)


class Edge(Loss):
    """Mean absolute difference of the first (Sobel, x and y) or second (Laplacian) derivatives."""

    def __init__(self, operator: Literal["sobel", "laplacian"] = "sobel", weight: Weight = 0.1):
        super().__init__(weight)
        self.filters = Filters(SOBEL_X, SOBEL_Y) if operator == "sobel" else Filters(LAPLACIAN)

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        return self.filters(sr - hr).abs().mean()


class GradientVariance(Loss):
    """Squared difference of the variances of gradients within patches.

    A blurred edge has gradients of smaller variance (Abrahamyan et al., 2022). On grey images,
    in patches side by side, variances with `n - 1`; one term per filter, weighted and added. EFDN
    (NTIRE 2022) adds the Laplacian and weighs the three by the shares that its edge-oriented
    blocks have learned, about 1e-3 each; its authors report that 1e-3 for all does as well.
    """

    shares: Tensor

    def __init__(
        self,
        sobel_x: Weight = 1.0,  # of the horizontal derivative
        sobel_y: Weight = 1.0,  # of the vertical one
        laplacian: Weight = 0.0,  # of the second derivative
        patch: int = 8,  # side in pixels; what is left over at the right and bottom is ignored
        weight: Weight = 0.01,
    ):
        super().__init__(weight)
        shares = {SOBEL_X: sobel_x, SOBEL_Y: sobel_y, LAPLACIAN: laplacian}
        used = {kernel: share for kernel, share in shares.items() if share}
        if not used:
            raise UserError("gradient variance: at least one of sobel_x, sobel_y, laplacian > 0")
        self.filters = Filters(*used)
        self.register_buffer("shares", torch.tensor(list(used.values())), persistent=False)
        self.patch = patch

    def variances(self, image: Tensor) -> Tensor:
        """(N, filters, rows, columns), the variance within each patch of an RGB image.

        Raises:
            UserError: the image is smaller than a patch.
        """
        red, green, blue = image.split(1, dim=1)
        maps = self.filters(GREY[0] * red + GREY[1] * green + GREY[2] * blue)
        size = self.patch
        rows, columns = maps.shape[2] // size, maps.shape[3] // size
        if not rows or not columns:
            raise UserError(
                f"gradient variance needs targets of at least {size}x{size} pixels, got "
                f"{maps.shape[3]}x{maps.shape[2]}: set a smaller loss patch or a larger "
                "data.patch_size"
            )
        tiles = maps[..., : rows * size, : columns * size]
        tiles = tiles.unflatten(3, (columns, size)).unflatten(2, (rows, size))
        return tiles.var(dim=(3, 5))

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        difference = (self.variances(sr) - self.variances(hr)).square().mean(dim=(0, 2, 3))
        return (difference * self.shares).sum()


class TotalVariation(Loss):
    """Mean absolute difference of neighbouring pixels of the output: a penalty on noise."""

    def __init__(self, weight: Weight = 1e-4):
        super().__init__(weight)

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        return sr.diff(dim=-1).abs().mean() + sr.diff(dim=-2).abs().mean()
