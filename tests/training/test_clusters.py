"""The launchers: what SLURM would be given, and sweeps that really run and are preempted."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

import fake_slurm
from esr.config import conf_dir
from tiny import COMMAND, TINY, assert_same_run, finish, saved, start, wait_for_steps

submitit = pytest.importorskip("submitit")
pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
pytest.importorskip("hydra_plugins.hydra_joblib_launcher")

STEPS = 60
RUN = [*TINY, "data.batch_size=4", "data.samples_per_epoch=240", f"trainer.max_steps={STEPS}"]
MORE = ["+logger.csv.flush_logs_every_n_steps=1"]  # to see how far a run is


@pytest.fixture(autouse=True)
def _no_hydra() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


def configured(*overrides: str) -> DictConfig:
    """The configuration as the launcher sees it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


@pytest.mark.parametrize("name", ["slurm", "slurm_ddp", "local", "parallel"])
def test_the_presets_compose(name: str) -> None:
    launcher = configured(f"hydra/launcher={name}").hydra.launcher
    assert launcher._target_.startswith("hydra_plugins.")


def submitted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, *overrides: str
) -> tuple[list[str], str]:
    """The `#SBATCH` flags and the command that the real launcher submits."""
    monkeypatch.setenv("PATH", str(fake_slurm.install(folder)), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("FAKE_SLURM_RUNS", "no")
    monkeypatch.setattr(submitit.SlurmJob, "results", lambda self: [None])
    cfg = configured(*overrides, f"hydra.sweep.dir={folder / 'sweep'}")
    HydraConfig.instance().set_config(cfg)
    launcher: Any = instantiate(cfg.hydra.launcher)
    with open_dict(cfg):
        launcher.setup(hydra_context=None, task_function=print, config=cfg)
    launcher.launch([[f"seed={seed}"] for seed in range(jobs)], 0)
    lines = (folder / f"script-{fake_slurm.FIRST_JOB}.sh").read_text().splitlines()
    flags = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    return flags, lines[-1]


def test_the_slurm_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, command = submitted(
        tmp_path,
        monkeypatch,
        3,
        "hydra/launcher=slurm",
        "hydra.launcher.account=lab",
        "hydra.launcher.partition=gpu",
        "hydra.launcher.array_parallelism=2",
    )
    assert {
        "account=lab",
        "partition=gpu",
        "gpus-per-node=1",
        "cpus-per-task=8",
        "mem=32GB",
        "nodes=1",
        "ntasks-per-node=1",
        "time=240",
        "array=0-2%2",
        "signal=USR2@120",
        "requeue",
        "job-name=esr",
    } <= set(flags)
    assert command.startswith("srun ")
    assert "-m submitit.core._submit" in command


def test_the_slurm_script_for_several_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, _ = submitted(
        tmp_path, monkeypatch, 1, "hydra/launcher=slurm_ddp", "hydra.launcher.tasks_per_node=8"
    )
    assert {"gpus-per-node=8", "ntasks-per-node=8", "signal=USR2@120", "requeue"} <= set(flags)
    assert not [flag for flag in flags if flag.startswith(("account", "partition", "array"))]


def sweep(folder: Path, *overrides: str, **variables: str) -> subprocess.Popen:
    return start(*COMMAND, "-m", *overrides, f"hydra.sweep.dir={folder}", **variables)


def undisturbed(folder: Path, *overrides: str) -> Path:
    run = folder / "undisturbed"
    finish(start(*COMMAND, *RUN, *overrides, f"run={run}"))
    return run


@pytest.mark.slow
def test_a_sweep_of_four_by_submitit(tmp_path: Path) -> None:
    rates = "optim.lr=1e-3,2e-3,3e-3,4e-3"
    finish(sweep(tmp_path, "hydra/launcher=local", *TINY, "debug=fast", rates))
    for job in range(4):
        assert (tmp_path / str(job) / "result.json").is_file()
        assert saved(tmp_path / str(job))["global_step"] == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find the job")
def test_a_preempted_job_of_submitit_goes_on_exactly(tmp_path: Path) -> None:
    process = sweep(tmp_path / "sweep", "hydra/launcher=local", *RUN, *MORE)
    run = tmp_path / "sweep" / "0"
    wait_for_steps(run, process)
    controller = next(p.name for p in (tmp_path / "sweep/.submitit").iterdir() if p.name.isdigit())
    tasks = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(tasks[0]), signal.SIGUSR2)
    finish(process)
    log = (tmp_path / f"sweep/.submitit/{controller}/{controller}_0_log.out").read_text()
    assert "Requeued job" in log
    assert "go on with" in log
    assert_same_run(undisturbed(tmp_path), run)


@pytest.mark.slow
def test_a_preempted_job_of_two_processes_goes_on_exactly(tmp_path: Path) -> None:
    """The second process alone is told; SLURM is played by `fake_slurm`."""
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    path = f"{fake_slurm.install(tmp_path)}{os.pathsep}{os.environ['PATH']}"
    process = sweep(
        tmp_path / "sweep",
        "hydra/launcher=slurm_ddp",
        "hydra.launcher.tasks_per_node=2",
        *RUN,
        *ranks,
        *MORE,
        PATH=path,
        FAKE_SLURM=str(tmp_path),
    )
    run = tmp_path / "sweep" / "0"
    wait_for_steps(run, process)
    tasks = (tmp_path / f"pids-{fake_slurm.FIRST_JOB}").read_text().split()
    os.kill(int(tasks[1]), signal.SIGUSR2)
    finish(process)
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {fake_slurm.FIRST_JOB}\n"
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    assert_same_run(undisturbed(tmp_path, *ranks), run)
