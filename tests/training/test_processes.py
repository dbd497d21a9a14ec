"""Several processes train what one process would, and stop and go on together."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from esr.config import compose
from esr.errors import UserError
from esr.training import folder as runs
from esr.training import processes
from tiny import COMMAND, TINY, assert_same_run, finish, losses, saved, start, wait_for_steps

STEPS = 50
# One epoch, and 10 steps at least until a signal is acted upon.
RUN = [*TINY, "data.batch_size=4", "data.samples_per_epoch=200", f"trainer.max_steps={STEPS}"]
RANKS = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    finish(start(*COMMAND, *RUN, f"run={run}"))
    return run


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("together") / "run"
    finish(start(*COMMAND, *RUN, *RANKS, f"run={run}"))
    return run


def assert_equal_runs(left: Path, right: Path) -> None:
    """What two processes may differ by from one: the order of the sums."""
    ours, theirs = losses(left), losses(right)
    assert len(ours) == STEPS
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[step] - theirs[step]) for step in ours) < 1e-5
    weights, others = (saved(run)["state_dict"] for run in (left, right))
    for name, weight in weights.items():
        assert (weight - others[name]).norm() <= 1e-4 * weight.norm(), name
    metrics = [json.loads((run / runs.RESULT).read_text())["metrics"] for run in (left, right)]
    assert metrics[0]["val/psnr_rgb"] == pytest.approx(metrics[1]["val/psnr_rgb"], abs=1e-3)


@pytest.mark.slow
def test_two_processes_train_what_one_would(alone: Path, together: Path) -> None:
    assert_equal_runs(alone, together)


@pytest.mark.slow
def test_torchrun_starts_the_same(together: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    torchrun = [COMMAND[0], "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    finish(start(*torchrun, COMMAND[1], *RUN, *RANKS, f"run={run}"))
    assert_same_run(together, run)


@pytest.mark.slow
@pytest.mark.parametrize("told", ["first", "other"])
def test_a_signal_to_one_process_stops_both_and_they_go_on(
    together: Path, tmp_path: Path, told: str
) -> None:
    run = tmp_path / "run"
    more = [f"run={run}", "+logger.csv.flush_logs_every_n_steps=1"]
    process = start(*COMMAND, *RUN, *RANKS, *more)
    wait_for_steps(run, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if told == "other" and not children.exists():
        pytest.skip("needs /proc to find the other process")
    number = process.pid if told == "first" else int(children.read_text().split()[0])
    os.kill(number, signal.SIGTERM)
    finish(process, 128 + signal.SIGTERM)
    step = saved(run)["global_step"]
    assert 0 < step < STEPS
    assert step % 10 == 0
    assert list(losses(run)) == list(range(step))
    finish(start(*COMMAND, f"resume={run}"))
    assert_same_run(together, run)


# What Lightning, torchrun and srun tell their processes.
LIGHTNING = {"LOCAL_RANK": "1", "NODE_RANK": "0", "ESR_RUN": "chosen"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
SRUN = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}


def environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in os.environ:
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name.endswith("RANK"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("ESR_RUN", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("variables", [TORCHRUN, SRUN], ids=["torchrun", "srun"])
def test_processes_that_start_at_once_are_told_their_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]
) -> None:
    environment(monkeypatch, variables)
    assert processes.follows()
    cfg = compose("train", [f"output={tmp_path}"])
    with pytest.raises(UserError, match="run=FOLDER"):
        runs.claim(cfg)
    assert runs.claim(compose("train", [f"run={tmp_path}/it"])) == tmp_path / "it"
    job = compose("train", [])
    assert runs.claim(job, tmp_path / "job") == tmp_path / "job"  # of a sweep
    assert job.run == str(tmp_path / "job")
    assert not list(tmp_path.iterdir())


def test_lightnings_processes_follow_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, LIGHTNING)
    assert runs.claim(compose("train", [])) == Path("chosen")


def test_several_nodes_are_told_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, {})
    with pytest.raises(UserError, match=r"num_nodes=2.*run=FOLDER"):
        runs.claim(compose("train", ["trainer.num_nodes=2"]))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {**SRUN, "SLURM_PROCID": "0"},
        {**SRUN, "SLURM_JOB_NAME": "bash"},  # a shell within an allocation
        {**TORCHRUN, "RANK": "0"},
    ],
    ids=["nobody", "srun", "interactive", "torchrun"],
)
def test_the_first_process_decides(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    environment(monkeypatch, variables)
    assert not processes.follows()


def fits(
    monkeypatch: pytest.MonkeyPatch, devices: int, batches: Sequence[int] = (4,), **how: Any
) -> None:
    environment(monkeypatch, how.pop("variables", {}))
    trainer: Any = SimpleNamespace(num_devices=devices, num_nodes=how.pop("nodes", 1))
    processes.require_fitting(trainer, batches, **how)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fits(monkeypatch, 2)
    fits(monkeypatch, 2, nodes=2)
    with pytest.raises(UserError, match=r"batch_size=3.*2 devices.*data.batch_size=4"):
        fits(monkeypatch, 2, [3])
    with pytest.raises(UserError, match=r"batch_size=2 .*4 devices.*data.batch_size=4"):
        fits(monkeypatch, 2, [2], nodes=2)
    with pytest.raises(UserError, match="batch_size=6"):
        fits(monkeypatch, 4, [4, 6])


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fits(monkeypatch, 2, variables=SRUN)
    fits(monkeypatch, 2, variables=TORCHRUN)
    with pytest.raises(UserError, match=r"srun started 2.*trainer=ddp trainer.devices=2"):
        fits(monkeypatch, 1, variables=SRUN)
    with pytest.raises(UserError, match=r"torchrun started 2.*for 4"):
        fits(monkeypatch, 4, variables=TORCHRUN)


def test_a_job_of_a_sweep_starts_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    fits(monkeypatch, 1, alone=False)
    fits(monkeypatch, 2, alone=False, variables=SRUN)
    with pytest.raises(UserError, match="hydra/launcher=slurm_ddp"):
        fits(monkeypatch, 2, alone=False)


def test_the_loss_is_averaged_only_where_it_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    from esr.training.module import SuperResolution

    reduced = []

    def reduce(own: torch.Tensor, reduce_op: str) -> torch.Tensor:
        reduced.append(reduce_op)
        return own / 2

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    for step, last, logged in [(3, False, False), (9, False, True), (4, True, True)]:
        trainer = SimpleNamespace(
            log_every_n_steps=10,
            is_last_batch=last,
            max_steps=100,
            strategy=SimpleNamespace(reduce=reduce),
        )
        module: Any = SimpleNamespace(global_step=step, trainer=trainer)
        reduced.clear()
        values = {"train/loss": torch.tensor(4.0), "train/l1": torch.tensor(2.0)}
        means = SuperResolution._over_processes(module, values)
        assert reduced == (["mean"] if logged else [])
        assert [float(mean) for mean in means.values()] == ([2.0, 1.0] if logged else [4.0, 2.0])
