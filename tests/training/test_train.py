"""A run leaves everything behind, can be repeated and resumed, and never overwrites another."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open

import tiny
from esr.commands import train as stages
from esr.config import compose
from esr.errors import UserError
from esr.evaluation import objective
from esr.models.rlfn import RLFN
from esr.zoo import open as checkpoints
from tiny import assert_same_run, losses, resume, saved

TINY = [
    *(word for word in tiny.TINY if not word.startswith("callbacks.")),  # with pictures
    "callbacks.evaluation=null",
    "callbacks.checkpoint.monitor=null",
    "objective=eff/params_m",
]


def train(run: Path, *overrides: str) -> None:
    stages.run(compose("train", [*TINY, f"run={run}", *overrides]))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(run, "trainer.max_steps=10")
    return run


def test_the_run_folder_is_complete(undisturbed: Path) -> None:
    for name in ("config.yaml", "resolved.yaml", "overrides.yaml", "result.json", "metrics.csv"):
        assert (undisturbed / name).stat().st_size > 0, name
    facts = json.loads((undisturbed / "environment.json").read_text())
    assert facts["seed"] == 0
    assert facts["data"]["checksum"]
    assert {"commit", "dirty"} <= facts["git"].keys()
    assert facts["versions"]["torch"]
    assert OmegaConf.load(undisturbed / "resolved.yaml").schedule.T_max == 10
    assert list((undisturbed / "images").rglob("*.png"))


def test_the_csv_holds_every_step(undisturbed: Path) -> None:
    assert list(losses(undisturbed)) == list(range(10))


def test_the_deploy_file_needs_nothing_else(undisturbed: Path) -> None:
    path = undisturbed / "deploy.safetensors"
    with safe_open(path, "pt") as file:
        model = json.loads(file.metadata()["esr"])["model"]
    assert model["_target_"] == "esr.models.rlfn.RLFN"
    assert model["width"] == 8
    net = checkpoints.load(path)
    assert net(torch.rand(1, 3, 16, 16)).shape == (1, 3, 64, 64)


def test_a_run_is_repeated_from_its_folder(undisturbed: Path, tmp_path: Path) -> None:
    cfg = OmegaConf.load(undisturbed / "config.yaml")
    for key in ("defaults", "hydra"):
        cfg.pop(key)
    cfg.run = str(tmp_path / "again")
    stages.run(cfg)
    assert_same_run(undisturbed, tmp_path / "again")


@pytest.mark.parametrize("steps", [3, 4, 6])  # within, at the end of, and after the first epoch
def test_an_interrupted_run_ends_like_an_undisturbed_one(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    from esr.training.module import SuperResolution

    original = SuperResolution.training_step

    def press_ctrl_c(self, batch, batch_idx):
        if self.global_step == steps - 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, batch, batch_idx)

    run = tmp_path / "run"
    monkeypatch.setattr(SuperResolution, "training_step", press_ctrl_c)
    with pytest.raises(SystemExit):
        train(run, "trainer.max_steps=10")
    monkeypatch.undo()
    assert saved(run)["global_step"] == steps
    resume(run)
    assert_same_run(undisturbed, run)


def test_a_network_that_keeps_a_tensor_trains_on_after_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning must not validate in inference mode: backward refuses tensors made there."""
    original = RLFN.forward

    def keeping(self: RLFN, x: torch.Tensor) -> torch.Tensor:
        # As `self.mean.type_as(x)` of many a network, which makes a new tensor on a GPU.
        mean = getattr(self, "mean", torch.ones((), dtype=torch.float64))
        self.mean = mean.type_as(x)
        return original(self, x) * self.mean

    monkeypatch.setattr(RLFN, "forward", keeping)
    train(tmp_path / "run", "trainer.max_steps=6", "trainer.num_sanity_val_steps=1")
    assert list(losses(tmp_path / "run")) == list(range(6))


def test_a_run_is_never_overwritten(undisturbed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(undisturbed, copy)
    before = (copy / "result.json").read_bytes()
    with pytest.raises(UserError, match="never overwritten"):
        train(copy, "trainer.max_steps=1")
    assert (copy / "result.json").read_bytes() == before


def test_two_runs_of_one_second_differ(tmp_path: Path) -> None:
    from esr.training import folder as runs

    cfg = compose("train", [f"output={tmp_path}", "name=twin"])
    folders = set()
    for _ in range(3):
        cfg.run = None
        folders.add(runs.claim(cfg))
    assert len(folders) == 3


def test_resuming_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        resume(tmp_path)


def test_an_unknown_objective_lists_what_was_measured() -> None:
    with pytest.raises(UserError, match="val/psnr_rgb"):
        objective.values({"val/psnr_rgb": 30.0}, "val/psnr")


@pytest.mark.slow
def test_a_resumed_run_goes_on_under_its_id_at_weights_and_biases(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    typed = [*TINY, "logger=[csv,wandb]", "logger.wandb.offline=true", f"run={tmp_path / 'run'}"]
    stages.run(compose("train", [*typed, "trainer.max_steps=2"]))
    stages.run(compose("train", [f"resume={tmp_path / 'run'}"]), ["trainer.max_steps=4"])
    ids = [path.name.rpartition("-")[2] for path in (tmp_path / "run").glob("wandb/*run-*-*")]
    assert len(ids) == 2
    assert len(set(ids)) == 1
