"""The smallest run of `train.py`, for tests that care how it starts, stops and goes on."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from esr.commands import train as stages
from esr.config import compose

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, str(ROOT / "train.py")]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

TINY = [
    "model=rlfn",
    "model.depth=1",
    "model.width=8",
    "model.mid=8",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "data.batch_size=2",
    "data.samples_per_epoch=8",  # 4 steps an epoch
    "data.patch_size=64",
    "callbacks.images=null",
    "callbacks.evaluation.seconds=0",
    "callbacks.evaluation.size=[64,64]",
]


def start(*command: str, **variables: str) -> subprocess.Popen:
    """A command in a session of its own, with variables added to the environment."""
    return subprocess.Popen(
        command,
        env={**ENVIRONMENT, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """What it printed; nothing of it stays behind."""
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, output
    return output


def wait_for_steps(run: Path, process: subprocess.Popen) -> None:
    """Until a run with `+logger.csv.flush_logs_every_n_steps=1` has logged a few steps."""
    end = time.monotonic() + 120
    while not (run / "metrics.csv").exists() or not losses(run):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def train(run: Path, *overrides: str) -> None:
    """Train in this process."""
    stages.run(compose("train", [*TINY, f"run={run}", *overrides]))


def resume(run: Path) -> None:
    """Go on in this process."""
    stages.run(compose("train", [f"resume={run}"]))


def saved(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def losses(run: Path) -> dict[int, float]:
    """The logged loss by step."""
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    assert len({row["step"] for row in rows}) == len(rows)
    return {int(row["step"]): float(row["train/loss"]) for row in rows}


def assert_same_run(left: Path, right: Path) -> None:
    """The same losses at the same steps, and bit-equal weights at the end."""
    assert losses(left) == losses(right)
    weights = [saved(run)["state_dict"] for run in (left, right)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
