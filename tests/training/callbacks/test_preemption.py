"""A signal ends a run after a whole step, and the run goes on as if nothing had happened."""

import os
import signal
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from esr.training import signals as preemption
from tiny import assert_same_run, losses, resume, saved, train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

RUN = [
    "trainer.max_steps=6",
    "data.samples_per_epoch=4",  # 2 steps an epoch
    "callbacks.checkpoint.mode=min",  # PSNR rises: the first is the best
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(run, *RUN)
    return run


def send(monkeypatch: pytest.MonkeyPatch, steps: dict[int, int]) -> None:
    """Send signals to this process in the middle of steps, by the number of the step from 1."""
    from esr.training.module import SuperResolution

    original = SuperResolution.training_step

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        if number := steps.get(self.global_step + 1):
            signal.raise_signal(number)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SuperResolution, "training_step", step)


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM job with a `scontrol` that writes down how it is called."""
    log, command = tmp_path / "scontrol.log", tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "12345")
    return log


def test_a_run_goes_on_exactly_after_each_signal(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    for step, number in zip((1, 4, 5), preemption.SIGNALS[1:], strict=True):
        before = signal.getsignal(number)
        with monkeypatch.context() as patch:
            send(patch, {step: number})
            with pytest.raises(SystemExit) as end:
                resume(run) if run.exists() else train(run, *RUN)
        assert end.value.code == 128 + number
        assert signal.getsignal(number) is before
        assert saved(run)["global_step"] == step
    assert not list(run.rglob("hpc_ckpt*"))
    resume(run)
    assert_same_run(undisturbed, run)


def test_a_slurm_job_is_queued_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scontrol: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    # What a task of `sbatch --ntasks-per-node=1` finds, so that Lightning knows SLURM.
    for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        send(patch, {1: signal.SIGUSR1})
        with pytest.raises(SystemExit):
            train(run, "trainer.max_steps=2")
    assert scontrol.read_text() == "requeue 12345\n"
    assert "SLURM job 12345 is queued again" in capsys.readouterr().out
    assert saved(run)["global_step"] == 1
    assert not list(run.rglob("hpc_ckpt*"))


def test_a_plain_end_does_not_queue_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scontrol: Path
) -> None:
    with monkeypatch.context() as patch:
        send(patch, {1: signal.SIGTERM})  # what scancel sends
        with pytest.raises(SystemExit):
            train(tmp_path / "run", "trainer.max_steps=2")
    assert not scontrol.exists()


def test_whoever_had_the_signal_gets_it_when_all_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scontrol: Path
) -> None:
    """As submitit does: SIGTERM passes, SIGUSR2 queues the job again and exits."""
    run, calls = tmp_path / "run", []

    def note(number: int, frame: Any) -> None:
        calls.append((number, saved(run)["global_step"], sorted(losses(run))))
        if number == signal.SIGUSR2:
            raise SystemExit(144)

    old = [(number, signal.signal(number, note)) for number in (signal.SIGTERM, signal.SIGUSR2)]
    try:
        with monkeypatch.context() as patch:
            send(patch, {1: signal.SIGTERM, 3: signal.SIGUSR2})
            with pytest.raises(SystemExit) as end:
                train(run, "trainer.max_steps=4")
        assert signal.getsignal(signal.SIGTERM) is note
    finally:
        for number, handler in old:
            signal.signal(number, handler)
    assert end.value.code == 144
    assert calls == [(signal.SIGTERM, 1, [0]), (signal.SIGUSR2, 3, [0, 1, 2])]
    assert not scontrol.exists()


def test_an_array_job_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "101")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "100")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert preemption.slurm_job() == "100_1"


def test_a_failed_requeue_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    preemption.requeue("7")
    assert "SLURM job 7 could not be queued again" in capsys.readouterr().out


def test_processes_that_do_not_lead_end_quietly(scontrol: Path) -> None:
    signals = preemption.Signals(leads=False)
    with pytest.raises(SystemExit) as end:
        signals.hand_over(preemption.SIGNALS.index(signal.SIGUSR1) + 1, ends=True)
    assert end.value.code == 0
    assert not scontrol.exists()


def test_processes_ask_each_other_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    from esr.training.callbacks.checkpoint import TOGETHER, Checkpoint

    asked = []
    strategy = SimpleNamespace(
        root_device=torch.device("cpu"),
        reduce=lambda own, reduce_op: asked.append(int(own)) or torch.tensor(3),
    )
    callback = Checkpoint("unused")
    for step in range(1, TOGETHER + 1):
        trainer: Any = SimpleNamespace(world_size=2, global_step=step, strategy=strategy)
        noted = callback._noted(trainer)
    assert asked == [0]
    assert noted == 3  # of another process


def test_a_killed_run_goes_on_from_its_last_validation(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from its best one, which here is the first."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("signal.raise_signal", lambda number: 1 / 0)
        send(patch, {6: 1})
        with pytest.raises(ZeroDivisionError):
            train(run, *RUN)
    assert saved(run)["global_step"] == 4
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == 2
    resume(run)
    assert_same_run(undisturbed, run)
