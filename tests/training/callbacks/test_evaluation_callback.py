"""The callback: every key each epoch, the same figures as the functions, nothing disturbed."""

import csv
import json

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from esr.errors import UserError
from esr.evaluation import measure as evaluation
from esr.metrics.fidelity import psnr_rgb
from esr.models.network import Network
from esr.training.callbacks.evaluation import Evaluation
from esr.training.module import SuperResolution

KEYS = {
    "val/psnr_rgb", "val/psnr_y", "val/ssim_y", "eff/params_m", "eff/flops_g", "eff/acts_m",
    "eff/convs", "eff/runtime_ms", "eff/runtime_ratio", "eff/cost_s",
}  # fmt: skip


class Fused(nn.Module):
    """Two parallel convolutions, merged into one to deploy."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Conv2d(3, 12, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return self.a(x) + self.b(x)

    def fuse(self):
        merged = nn.Conv2d(3, 12, 3, padding=1)
        merged.weight.data = self.a.weight.data + self.b.weight.data
        merged.bias.data = self.a.bias.data + self.b.bias.data
        return merged


class Tiny(Network):
    def __init__(self, conv: nn.Module | None = None, poison: bool = False):
        super().__init__(scale=2)
        self.conv = conv or nn.Conv2d(3, 12, 3, padding=1)
        self.poison = poison

    def body(self, x):
        y = nn.functional.pixel_shuffle(self.conv(x), 2)
        return y * float("nan") if self.poison else y


class Data(pl.LightningDataModule):
    scale = 2

    def __init__(self, names=("a",)):
        super().__init__()
        self.val_names = list(names)
        generator = torch.Generator().manual_seed(0)
        self.images = [
            {"lr": torch.rand(1, 3, 16, 16 + i, generator=generator), "name": [f"image{i}"]}
            for i in range(3)
        ]
        for image in self.images:
            image["hr"] = nn.functional.interpolate(image["lr"], scale_factor=2, mode="bicubic")

    def train_dataloader(self):
        return DataLoader(self.images, batch_size=None)

    def val_dataloader(self):
        return [DataLoader(self.images, collate_fn=lambda b: b[0]) for _ in self.val_names]


class L1(nn.Module):
    def forward(self, sr, hr, lr):
        return (sr - hr).abs().mean()


def train(tmp_path, net, callbacks, epochs=2, names=("a",), rate=1e-2, **settings):
    module = SuperResolution(net, L1(), lambda p: torch.optim.SGD(p, lr=rate))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        logger=CSVLogger(tmp_path, name="", version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        num_sanity_val_steps=1,
        **settings,
    )
    data = Data(names)
    trainer.fit(module, datamodule=data)
    return trainer, module, data


def evaluation_callback(**settings):
    return Evaluation(**{"seconds": 0.05, "size": (24, 24), **settings})


def test_every_key_each_epoch(tmp_path):
    train(tmp_path, Tiny(), [evaluation_callback()], epochs=3)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/psnr_rgb"]]
    assert len(rows) == 3
    for row in rows:
        assert all(row[key] for key in KEYS), row
        assert "eff/memory_mib" not in row  # no CUDA: absent, not invented


def test_the_callback_and_the_functions_agree(tmp_path):
    trainer, module, data = train(tmp_path, Tiny(), [evaluation_callback()])
    logged = trainer.callback_metrics
    expected = evaluation.fidelity(module.net, data)
    for key, value in expected.items():
        assert logged[key].item() == pytest.approx(value, abs=1e-5)
    assert logged["eff/params_m"].item() == pytest.approx(336e-6)
    assert logged["eff/flops_g"].item() == pytest.approx(24 * 24 * 324 / 1e9)


def test_several_sets_are_named_and_the_first_is_primary(tmp_path):
    trainer, *_ = train(tmp_path, Tiny(), [evaluation_callback()], names=("Set5", "Set14"))
    logged = trainer.callback_metrics
    assert logged["val/psnr_rgb"] == logged["val/Set5/psnr_rgb"]
    assert "val/Set14/ssim_y" in logged


def test_the_deploy_form_is_what_is_measured(tmp_path):
    callback = evaluation_callback()
    trainer, module, data = train(tmp_path, Tiny(Fused()), [callback])
    assert trainer.callback_metrics["eff/convs"] == 1
    assert trainer.callback_metrics["eff/params_m"].item() == pytest.approx(336e-6)
    assert isinstance(module.net.conv, Fused)
    expected = evaluation.fidelity(evaluation.fuse(module.net), data)["val/psnr_rgb"]
    assert trainer.callback_metrics["val/psnr_rgb"].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_averaged_weights_are_what_is_measured(tmp_path, first):
    ema = EMAWeightAveraging(decay=0.9)
    callbacks = [ema, evaluation_callback()] if first else [evaluation_callback(), ema]
    trainer, module, data = train(tmp_path, Tiny(), callbacks, epochs=1, rate=1.0)
    logged = trainer.callback_metrics["val/psnr_rgb"].item()
    # After the fit Lightning leaves the averaged weights in place.
    assert logged == pytest.approx(evaluation.fidelity(module.net, data)["val/psnr_rgb"], abs=1e-4)


def test_training_is_not_disturbed(tmp_path):
    """The same weights with the callback and without it: random state and modes are kept."""

    class Dropping(Tiny):
        def body(self, x):
            return super().body(nn.functional.dropout(x, 0.1, self.training))

    states = []
    for i, callbacks in enumerate([[], [evaluation_callback()]]):
        pl.seed_everything(3, verbose=False)
        _, module, _ = train(tmp_path / str(i), Dropping(), callbacks)
        states.append(module.net.state_dict() | {"rng": torch.get_rng_state()})
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_cudnn_flags_are_kept():
    for flag in (True, False):
        torch.backends.cudnn.benchmark = flag
        evaluation.efficiency(Tiny(), size=(24, 24), seconds=0.01)
        assert torch.backends.cudnn.benchmark is flag
    torch.backends.cudnn.benchmark = False


def test_scores_are_taken_in_real_float32_and_the_flags_put_back(tmp_path):
    seen = []

    class Watching(Tiny):
        def body(self, x):
            if not self.training and x.shape[-1] != 24:  # the validation images
                seen.append(torch.backends.cudnn.allow_tf32)
            return super().body(x)

    torch.backends.cudnn.allow_tf32 = True
    _, module, data = train(tmp_path, Watching(), [evaluation_callback()], epochs=1)
    evaluation.fidelity(module.net, data)
    assert seen[0] is True  # Lightning's sanity check, which nobody scores
    assert seen[1:] == [False] * 6
    assert torch.backends.cudnn.allow_tf32 is True


def test_static_figures_are_counted_once(tmp_path, monkeypatch):
    calls = []
    original = evaluation.complexity
    monkeypatch.setattr(
        "esr.training.callbacks.evaluation.complexity", lambda *a: calls.append(1) or original(*a)
    )
    train(tmp_path, Tiny(), [evaluation_callback()], epochs=3)
    assert len(calls) == 1


def test_output_that_is_not_finite_is_reported(tmp_path):
    with pytest.warns(UserWarning, match=r"not finite .* 3 images, the first is image0"):
        trainer, *_ = train(tmp_path, Tiny(poison=True), [evaluation_callback()], epochs=1)
    assert trainer.callback_metrics["val/psnr_rgb"].isnan()


def test_a_network_that_cannot_take_the_size_is_refused_before_training(tmp_path):
    net = Tiny()
    net.min_size = 300
    with pytest.raises(UserError, match="300x300"):
        train(tmp_path, net, [evaluation_callback(size=(256, 256))])


def test_mixed_precision_is_scored_in_full(tmp_path):
    trainer, module, data = train(
        tmp_path, Tiny(), [evaluation_callback()], epochs=1, precision="bf16-mixed"
    )
    expected = evaluation.fidelity(module.net, data)["val/psnr_rgb"]
    assert trainer.callback_metrics["val/psnr_rgb"].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_two_processes_count_each_image_once(tmp_path):
    """Three images on two processes: the sampler repeats one, and it must not count."""
    callbacks = [evaluation_callback()]
    trainer, module, data = train(
        tmp_path, Tiny(), callbacks, epochs=1, rate=0.0, devices=2, strategy="ddp_fork"
    )
    scores = [psnr_rgb(module.net(image["lr"]), image["hr"], 2).item() for image in data.images]
    logged = trainer.callback_metrics["val/psnr_rgb"].item()
    assert logged == pytest.approx(sum(scores) / 3, abs=1e-4)


@pytest.mark.slow
def test_loggers_that_show_tables_get_one(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from pytorch_lightning.loggers import WandbLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    module = SuperResolution(Tiny(), L1(), lambda p: torch.optim.SGD(p, lr=0.01))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[evaluation_callback()],
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, datamodule=Data())
    logger.experiment.finish()
    (table,) = sorted(tmp_path.rglob("media/table/evaluation*.json"))[-1:]
    content = json.loads(table.read_text())
    assert {"epoch", "step", *KEYS} == set(content["columns"])
    assert [row[content["columns"].index("epoch")] for row in content["data"]] == [0, 1]
