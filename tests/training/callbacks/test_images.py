"""Validation pictures: the right window, the right parts, a bounded number of files."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader

from esr.training.callbacks.images import GAP, ValidationImages, most_detailed, strip


class Enlarge(pl.LightningModule):
    """Repeats pixels; one parameter, so that a run has something to train."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def _enlarge(self, lr: torch.Tensor) -> torch.Tensor:
        return self.gain * lr.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def training_step(self, batch, batch_idx):
        return (self._enlarge(batch["lr"]) - batch["hr"]).abs().mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return {"sr": self._enlarge(batch["lr"])}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def samples(count: int) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "lr": torch.rand(3, 20, 24, generator=generator),
            "hr": torch.rand(3, 40, 48, generator=generator),
            "name": f"photo {i}",
        }
        for i in range(count)
    ]


def fit(folder: Path, callback: ValidationImages, steps: int, logger=False) -> None:
    pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=[callback],
        logger=logger,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Enlarge(), DataLoader(samples(1)), DataLoader(samples(3)))


def test_finds_the_detail():
    image = torch.full((3, 120, 160), 0.5)
    image[:, 60:100, 100:140] = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    top, left, height, width = most_detailed(image, 48, 4)
    assert (height, width) == (48, 48)
    assert top <= 60
    assert top + height >= 100
    assert left <= 100
    assert left + width >= 140


def test_the_parts_are_lr_sr_hr():
    lr, hr = torch.rand(3, 10, 12), torch.rand(3, 40, 48)
    picture = strip(lr, hr + 3, hr, size=256)  # an SR out of range is clamped, never wrapped
    assert picture.shape == (40, 3 * 48 + 2 * GAP, 3)
    first, second, third = picture[:, :48], picture[:, 48 + GAP : 96 + GAP], picture[:, -48:]
    np.testing.assert_array_equal(first[::4, ::4], (lr * 255).round().byte().permute(1, 2, 0))
    assert (second == 255).all()
    np.testing.assert_array_equal(third, (hr * 255).round().byte().permute(1, 2, 0))


def test_the_window_is_the_same_place_in_every_part():
    hr = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(1))
    hr[:, :40] = 0.5
    lr = hr[:, ::4, ::4]
    picture = strip(lr, hr, hr, size=32)
    low, sr = picture[:, :32], picture[:, 32 + GAP : 64 + GAP]
    np.testing.assert_array_equal(low[::4, ::4], sr[::4, ::4])


def test_files_are_bounded_and_the_first_stays(tmp_path: Path):
    fit(tmp_path, ValidationImages(count=2, keep=2), steps=6)
    folders = sorted((tmp_path / "images").iterdir())
    assert [folder.name for folder in folders] == ["photo_0", "photo_1"]
    for folder in folders:
        names = sorted(path.stem for path in folder.iterdir())
        assert names == ["00000001", "00000005", "00000006"]
        with Image.open(folder / "00000006.png") as picture:
            assert picture.size == (3 * 48 + 2 * GAP, 40)


def test_every_second_validation(tmp_path: Path):
    callback = ValidationImages(tmp_path / "shown", count=1, every_n_validations=2)
    fit(tmp_path, callback, steps=4)
    names = sorted(path.stem for path in (tmp_path / "shown" / "photo_0").iterdir())
    assert names == ["00000001", "00000003"]
    assert callback.state_dict() == {"validations": 4}


def test_tensorboard_receives_the_strips(tmp_path: Path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    from pytorch_lightning.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path, name="", version="board")
    fit(tmp_path, ValidationImages(count=1, keep=0), steps=1, logger=logger)
    logger.finalize("success")
    events = event_accumulator.EventAccumulator(str(tmp_path / "board")).Reload()
    assert events.Tags()["images"] == ["val/photo_0"]
    assert events.Images("val/photo_0")[0].width == 3 * 48 + 2 * GAP
    assert not (tmp_path / "images").exists()


@pytest.mark.slow
def test_wandb_receives_the_strips(tmp_path: Path, monkeypatch):
    pytest.importorskip("wandb")
    from pytorch_lightning.loggers import WandbLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, project="esr", offline=True)
    fit(tmp_path, ValidationImages(count=2, keep=0), steps=1, logger=logger)
    logger.experiment.finish()
    assert len(list(tmp_path.glob("wandb/**/media/images/val/*.png"))) == 2
