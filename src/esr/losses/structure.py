"""SSIM and MS-SSIM as losses (Wang et al., 2003 and 2004): `1 - similarity`.

Per channel on RGB in [0, 1], 11x11 Gaussian window with sigma 1.5, valid region only, as in the
authors' code. The metric `val/ssim_y` is on 8-bit luminance and is another number.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esr.errors import UserError
from esr.losses.arguments import Weight
from esr.losses.weighted import Loss

C1, C2 = 0.01**2, 0.03**2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class _Window(nn.Module):
    """A separable Gaussian, valid region."""

    taps: Tensor

    def __init__(self, size: int, sigma: float):
        super().__init__()
        at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        taps = torch.exp(-(at**2) / (2 * sigma**2))
        self.register_buffer("taps", taps / taps.sum(), persistent=False)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        taps = self.taps.to(x).expand(channels, 1, 1, -1)
        x = F.conv2d(x, taps, groups=channels)
        return F.conv2d(x, taps.transpose(2, 3), groups=channels)


class SSIM(Loss):
    """One minus the mean structural similarity; side and sigma of the window in pixels."""

    scales = 1

    def __init__(self, window: int = 11, sigma: float = 1.5, weight: Weight = 1.0):
        super().__init__(weight)
        self.window = _Window(window, sigma)

    def similarity(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """SSIM and its contrast-structure part, each (N, C)."""
        channels = sr.shape[1]
        moments = self.window(torch.cat([sr, hr, sr * sr, hr * hr, sr * hr], dim=1))
        x, y, xx, yy, xy = moments.unflatten(1, (5, channels)).unbind(1)
        contrast = (2 * (xy - x * y) + C2) / (xx - x * x + yy - y * y + C2)
        luminance = (2 * x * y + C1) / (x * x + y * y + C1)
        return (luminance * contrast).mean(dim=(2, 3)), contrast.mean(dim=(2, 3))

    def index(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The similarity of every image and channel, (N, C)."""
        return self.similarity(sr, hr)[0]

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        """Average `1 - index` over images and channels.

        Raises:
            UserError: the images are smaller than the window needs.
        """
        need = (self.window.size - 1) * 2 ** (self.scales - 1) + 1
        if min(sr.shape[-2:]) < need:
            raise UserError(
                f"{type(self).__name__} needs targets of at least {need}x{need} pixels, got "
                f"{sr.shape[-1]}x{sr.shape[-2]}: set data.patch_size={need} or more"
            )
        return 1 - self.index(sr, hr).mean()


class MSSSIM(SSIM):
    """One minus the multi-scale structural similarity, a product over five scales.

    Each scale is half the one before, by averaging.
    """

    scales = len(SCALE_WEIGHTS)

    def index(self, sr: Tensor, hr: Tensor) -> Tensor:
        result = sr.new_ones(())
        for at, power in enumerate(SCALE_WEIGHTS):
            whole, contrast = self.similarity(sr, hr)
            part = whole if at == self.scales - 1 else contrast
            # A negative structure has no fractional power; zero would have an infinite slope.
            result = result * part.clamp(min=1e-6) ** power
            sr, hr = F.avg_pool2d(sr, 2), F.avg_pool2d(hr, 2)
        return result
