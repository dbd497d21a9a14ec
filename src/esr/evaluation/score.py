"""`esr.score`: what a network reaches on a folder of images, in one call."""

from pathlib import Path

import torch
from torch import nn

from esr.data.open import open_store
from esr.data.sets import Folder
from esr.data.store import fingerprint
from esr.data.validation import WholeImages
from esr.evaluation.measure import fidelity


class Images:
    """A folder of images as validation data, read one after the other."""

    def __init__(self, hr: Path | str, lr: Path | str | None, scale: int):
        folder = Folder(str(hr), None if lr is None else str(lr))
        self.scale, self.val_names = scale, [folder.name]
        self._store = open_store({folder.name: folder}, "val", scale, "files", Path())

    def val_dataloader(self) -> list[WholeImages]:
        return [WholeImages(self._store)]

    def describe(self) -> list[str]:
        return [f"validation images  {len(self._store.names)} ({self.val_names[0]})"]

    def checksum(self) -> str:
        return fingerprint(self.val_names, [self._store.checksum()])


def score(
    net: nn.Module,  # RGB (N, 3, H, W) in [0, 1] to the enlarged image; it is moved to `device`
    hr: Path | str,  # folder of HR images
    lr: Path | str | None = None,  # of NAME.png or NAMEx4.png; None: made by MATLAB's bicubic
    scale: int | None = None,  # None: the network's attribute `scale`
    device: torch.device | str = "cpu",  # where it runs, in float32
) -> dict[str, float]:
    """PSNR (RGB and Y) in dB and SSIM (Y) of a network, means over a folder of images.

    Returns:
        `psnr_rgb` by the challenge's protocol (8-bit, border of `scale` pixels cropped), `psnr_y`
        and `ssim_y` by the papers' (MATLAB's luma).

    Raises:
        UserError: an image is absent, damaged or does not fit the scale.
    """
    side = int(scale or getattr(net, "scale", 4))
    found = fidelity(net.to(device), Images(hr, lr, side), device)
    return {key.removeprefix("val/"): value for key, value in found.items()}
