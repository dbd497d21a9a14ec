"""What Lightning's trainer gets: the very next patch after a resume, however the run is cut."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from esr.config import build, compose
from esr.data.sets import Folder, Sample
from esr.errors import UserError
from esr.training.datamodule import SRData


class Recorder(pl.LightningModule):
    """One weight; notes a fingerprint of every batch it trains on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen: list[float] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch["hr"].double().sum().item())
        return (self.weight * batch["lr"]).mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        assert batch["lr"].shape[0] == 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Interrupt(Callback):
    """Ctrl-C in the middle of a training step."""

    def __init__(self, step: int):
        self.step = step

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def data(folder, **options) -> SRData:
    settings = {"store": "ram", "patch_size": 32, "batch_size": 4, "samples_per_epoch": 20}
    return SRData(4, Folder(str(folder)), **{**settings, **options})


def trainer(tmp_path, steps, *callbacks, **options) -> pl.Trainer:
    return pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **options,
    )


@pytest.fixture
def hr(folder):
    return folder(count=5)


def test_an_uninterrupted_run_sees_the_samples_in_their_order(hr, tmp_path):
    module, module_data = Recorder(), data(hr)
    trainer(tmp_path, 12).fit(module, datamodule=module_data)
    fresh = data(hr)
    fresh.setup("fit")
    batches = fresh._batches(0, 1, 1, torch.device("cpu"))
    expected = [fresh._finish(batches[n])["hr"].double().sum().item() for n in range(12)]
    assert module.seen == expected


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stop", [3, 5, 7, 10])
def test_a_resumed_run_goes_on_with_the_very_next_batch(hr, tmp_path, stop, workers):
    """Epochs of five batches: stopped within one, and at an end."""
    whole = Recorder()
    trainer(tmp_path, 13).fit(whole, datamodule=data(hr))
    first, second = Recorder(), Recorder()
    run = trainer(tmp_path, stop)
    run.fit(first, datamodule=data(hr, num_workers=workers))
    run.save_checkpoint(tmp_path / "cut.ckpt")
    trainer(tmp_path, 13).fit(second, datamodule=data(hr, num_workers=workers),
                              ckpt_path=tmp_path / "cut.ckpt", weights_only=True)  # fmt: skip
    assert first.seen + second.seen == whole.seen


@pytest.mark.parametrize("step", [4, 5, 8])
def test_checkpoints_saved_while_training_goes_on_are_exact(hr, tmp_path, step):
    whole, second = Recorder(), Recorder()
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer(tmp_path, 11, saver).fit(whole, datamodule=data(hr))
    trainer(tmp_path, 11).fit(
        second, datamodule=data(hr), ckpt_path=tmp_path / f"step={step}.ckpt", weights_only=True
    )
    assert second.seen == whole.seen[step:]


def test_an_interrupted_step_is_repeated(hr, tmp_path):
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(tmp_path, 10).fit(whole, datamodule=data(hr))
    run = trainer(tmp_path, 10, Interrupt(7))
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        run.fit(first, datamodule=data(hr))
    run.save_checkpoint(tmp_path / "cut.ckpt")
    trainer(tmp_path, 10).fit(
        second, datamodule=data(hr), ckpt_path=tmp_path / "cut.ckpt", weights_only=True
    )
    assert first.seen == whole.seen[:8]
    assert second.seen == whole.seen[7:]


def test_accumulated_batches_count_too(hr, tmp_path):
    whole, first, second = Recorder(), Recorder(), Recorder()
    options = {"accumulate_grad_batches": 2}
    trainer(tmp_path, 6, **options).fit(whole, datamodule=data(hr, samples_per_epoch=24))
    run = trainer(tmp_path, 2, **options)
    run.fit(first, datamodule=data(hr, samples_per_epoch=24))
    run.save_checkpoint(tmp_path / "cut.ckpt")
    trainer(tmp_path, 6, **options).fit(
        second,
        datamodule=data(hr, samples_per_epoch=24),
        ckpt_path=tmp_path / "cut.ckpt",
        weights_only=True,
    )
    assert len(first.seen) == 4
    assert first.seen + second.seen == whole.seen


def test_sizes_change_at_their_step_and_survive_a_resume(hr, tmp_path):
    sizes = {"batch_size": {0: 4, 6: 2}, "patch_size": {0: 32, 4: 48}}
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer(tmp_path, 9).fit(whole, datamodule=data(hr, **sizes))
    run = trainer(tmp_path, 5)
    run.fit(first, datamodule=data(hr, **sizes))
    run.save_checkpoint(tmp_path / "cut.ckpt")
    trainer(tmp_path, 9).fit(
        second, datamodule=data(hr, **sizes), ckpt_path=tmp_path / "cut.ckpt", weights_only=True
    )
    assert first.seen + second.seen == whole.seen


def test_overfitting_repeats_the_first_batches(hr, tmp_path):
    module = Recorder()
    trainer(tmp_path, 6, overfit_batches=2).fit(module, datamodule=data(hr))
    assert module.seen == module.seen[:2] * 3


def test_validation_batches_are_whole_images_with_names(hr):
    module = data(hr, val={"a": Folder(str(hr)), "sample": Sample("val")})
    module.setup("validate")
    assert module.val_names == ["a", "sample"]
    batch = next(iter(module.val_dataloader()[1]))
    assert batch["name"] == ["chelsea"]
    assert batch["hr"].shape == (1, 3, 300, 448)
    assert batch["lr"].shape == (1, 3, 75, 112)
    assert batch["hr"].dtype == torch.float32
    assert 0 <= batch["hr"].min() <= batch["hr"].max() <= 1


def test_without_validation_images_some_are_held_out_and_said_so(hr):
    module = data(hr, val=Folder(None))
    module.setup()
    text = "\n".join(module.describe())
    assert "training images    4" in text
    assert "validation images  1 (photos, held out of the training images)" in text


def test_the_checksum_tells_the_data(hr, folder):
    sums = []
    for source in (hr, hr, folder("other", 5)):
        module = data(source)
        module.setup()
        sums.append(module.checksum())
    assert sums[0] == sums[1] != sums[2]


def test_wrong_values_are_refused_before_anything_is_read(tmp_path):
    for wrong, name in (
        ({"patch_size": 30}, "patch_size"),
        ({"sampling": "random"}, "sampling"),
        ({"mixup": 2.0}, "mixup"),
        ({"cutblur": 0.5}, "cutblur"),
    ):
        with pytest.raises(UserError, match=rf"data\.{name}"):
            data(tmp_path / "absent", **wrong)


def test_images_smaller_than_the_patch_are_named_before_training(hr):
    with pytest.raises(UserError, match=r"img01"):
        data(hr, patch_size=200).setup("fit")


@pytest.mark.parametrize("name", ["div2k", "flickr2k", "df2k", "lsdir"])
def test_sets_that_are_absent_are_explained(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ESR_DATA", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    module = build(compose("train", [f"data={name}"]).data)
    with pytest.raises(UserError, match=rf"(?s){tmp_path}.*data=sample"):
        module.prepare_data()


def test_the_issue_of_a_folder_and_nothing_else(hr, tmp_path):
    overrides = ["data=folder", f"data.train.hr={hr}", "data.patch_size=48"]
    module = build(compose("train", overrides).data)
    module.prepare_data()
    module.setup()
    batch = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert batch["lr"].shape == (16, 3, 12, 12)
    assert set(batch) == {"lr", "hr"}


def test_degradations_by_name():
    module = build(compose("train", ["data=sample", "data/degradation=realistic"]).data)
    module.setup()
    batch = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert batch["lr"].shape == (16, 3, 16, 16)
