"""Validation pictures: LR | SR | HR side by side, as files and in the logger.

The same few images and the same spot every time, so that progress can be seen: the spot is the
window with the most detail in the HR image, where super-resolution has something to do. The LR
part is enlarged without smoothing, because that is what the network is given.
"""

import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from annotated_types import Ge
from PIL import Image

GAP = 4
"""White pixels between the parts."""


class ValidationImages(pl.Callback):
    """Writes LR | SR | HR strips after each validation and gives them to loggers that show images.

    A file is `FOLDER/<set and image>/<step>.png`. The first one and the newest `keep` of each image
    stay, so that a long run does not fill the disk.
    """

    def __init__(
        self,
        folder: str | Path | None = None,  # None: `images` in the trainer's root folder
        count: Annotated[int, Ge(0)] = 4,  # images, the first ones of each validation set
        size: Annotated[int, Ge(1)] = 256,  # side of the window in HR pixels, or the whole image
        every_n_validations: Annotated[int, Ge(1)] = 1,
        keep: Annotated[int, Ge(0)] = 5,  # newest files of an image beside the first; 0: no files
    ):
        self.folder = None if folder is None else Path(folder)
        self.count = count
        self.size = size
        self.every_n_validations = every_n_validations
        self.keep = keep
        self._validations = 0
        self._strips: dict[str, np.ndarray] = {}

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module, outputs: Any, batch, batch_idx, dataloader_idx=0
    ) -> None:
        shown = self._validations % self.every_n_validations == 0 and batch_idx < self.count
        if not shown or trainer.sanity_checking or not trainer.is_global_zero:
            return
        names = getattr(getattr(trainer, "datamodule", None), "val_names", None) or []
        folder = f"{names[dataloader_idx]}_" if dataloader_idx < len(names) else ""
        image = batch.get("name", [f"{batch_idx:03d}"])[0]
        name = re.sub(r"[^\w.-]+", "_", f"{folder}{image}")
        self._strips[name] = strip(batch["lr"][0], outputs["sr"][0], batch["hr"][0], self.size)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._validations += 1
        strips, self._strips = self._strips, {}
        if not strips:
            return
        step = trainer.global_step
        if self.keep > 0:
            root = self.folder or Path(trainer.default_root_dir) / "images"
            for name, picture in strips.items():
                self._write(root / name, picture, step)
        for logger in trainer.loggers:
            _log(logger, strips, step)

    def _write(self, folder: Path, picture: np.ndarray, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{step:08d}.png")
        for old in sorted(folder.glob("[0-9]*.png"))[1 : -self.keep]:
            old.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations}  # a resumed run goes on in the same rhythm

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validations = state_dict["validations"]


def strip(lr: torch.Tensor, sr: torch.Tensor, hr: torch.Tensor, size: int = 256) -> np.ndarray:
    """LR (enlarged to pixels that can be seen), SR and HR of the window with the most detail.

    From LR (3, h, w) in [0, 1], SR and HR (3, H, W) of a multiple of its size, not necessarily
    clamped, and the side of the window in HR pixels, to uint8 HWC, three windows wide.
    """
    lr, sr, hr = (x.detach().float().cpu().clamp(0, 1) for x in (lr, sr, hr))
    scale = max(1, hr.shape[-1] // lr.shape[-1])
    top, left, height, width = most_detailed(hr, size, scale)
    small = lr[:, top // scale : (top + height) // scale, left // scale : (left + width) // scale]
    large = small.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    parts = [large, *(x[:, top : top + height, left : left + width] for x in (sr, hr))]
    gap = torch.ones(3, height, GAP)
    joined = torch.cat([parts[0], gap, parts[1], gap, parts[2]], dim=2).permute(1, 2, 0)
    return (joined * 255).round().to(torch.uint8).contiguous().numpy()


def most_detailed(image: torch.Tensor, size: int, step: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the window whose neighbouring pixels differ most.

    The image is (3, H, W); `size` is cut down to it, and all four numbers are multiples of `step`.
    """
    height = min(size, image.shape[-2]) // step * step
    width = min(size, image.shape[-1]) // step * step
    grey = F.pad(image.mean(0)[None, None], (0, 1, 0, 1), mode="replicate")
    detail = (grey[..., 1:, :-1] - grey[..., :-1, :-1]).abs()
    detail = detail + (grey[..., :-1, 1:] - grey[..., :-1, :-1]).abs()
    stride = max(step, size // 8 // step * step)
    windows = F.avg_pool2d(detail, (height, width), stride)[0, 0]
    row, column = divmod(int(windows.argmax()), windows.shape[1])
    return row * stride, column * stride, height, width


def _log(logger: Any, strips: dict[str, np.ndarray], step: int) -> None:
    """Give the strips to a logger that shows images: W&B and TensorBoard do, CSV does not."""
    if hasattr(logger, "log_image"):
        pictures, names = list(strips.values()), list(strips)
        logger.log_image(key="val/images", images=pictures, caption=names, step=step)
    elif hasattr(logger.experiment, "add_image"):
        for name, picture in strips.items():
            logger.experiment.add_image(f"val/{name}", picture, step, dataformats="HWC")
