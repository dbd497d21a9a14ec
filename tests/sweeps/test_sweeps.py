"""Sweeps: what is asked, what survives a kill, what is told. Training is real and tiny."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from PIL import Image

from esr.config import compose, conf_dir, options
from esr.errors import UserError
from esr.evaluation import objective
from esr.sweeps import results, search, space, trial
from esr.sweeps.study import Study, hidden, open_storage

TRAIN = Path(__file__).parents[2] / "train.py"
LOADER = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def tiny(photos: Path) -> list[str]:
    """A run of two steps of a tiny network."""
    return [
        "debug=fast", "data=folder", "data.store=ram", "data.patch_size=64",
        f"data.train.hr={photos}", f"data.val.hr={photos}",
        "model.width=8", "model.mid=8", "model.depth=1", "model.esa_width=4",
        "callbacks.evaluation.seconds=0", "callbacks.evaluation.size=[64,64]",
        "callbacks.images=null",
    ]  # fmt: skip


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(TRAIN), *overrides],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen) -> str:
    text, _ = process.communicate(timeout=280)
    assert process.returncode == 0, text
    return text


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / results.TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_ranges_are_read_in_hydras_grammar() -> None:
    typed = [
        "optim.lr=tag(log,interval(1e-4,1e-2))",
        "model.depth=int(interval(2,8))",
        "model.width=range(16,64,step=8)",
        "loss.l1.weight=range(0.5,1.5,step=0.25)",
        "loss=[l1],[l2]",
        "model=rlfn",
    ]
    fixed, found = space.split(typed, {}, LOADER)
    assert fixed == ["model=rlfn"]
    assert found == {
        "optim.lr": FloatDistribution(1e-4, 1e-2, log=True),
        "model.depth": IntDistribution(2, 8),
        "model.width": IntDistribution(16, 56, step=8),
        "loss.l1.weight": FloatDistribution(0.5, 1.25, step=0.25),
        "loss": CategoricalDistribution(["[l1]", "[l2]"]),
    }


def test_options_of_a_group_can_be_searched() -> None:
    _, found = space.split(["ntire2022=glob(rlf*)"], {}, LOADER)
    assert found == {"ntire2022": CategoricalDistribution(["rlfn"])}


def test_command_line_has_the_last_word_over_a_preset() -> None:
    preset = {"a": "range(1,4)", "b": "choice(1,2)", "c": "${a}"}
    fixed, found = space.split(["b=7", "a=range(5,9)"], preset, LOADER)
    assert fixed == ["c=${a}", "b=7"]
    assert found == {"a": IntDistribution(5, 8)}


@pytest.mark.parametrize("typed", [["model=rlfn"], ["model.width=interval(16,8)"]])
def test_bad_spaces_are_refused(typed: list[str]) -> None:
    with pytest.raises(UserError, match="search"):
        space.split(typed, {}, LOADER)


def study(folder: Path, **changes) -> Study:
    arguments = {
        "name": "s",
        "storage": None,
        "folder": folder,
        "searched": {"a": FloatDistribution(0, 1)},
        "fixed": ["model=rlfn"],
        "keys": ["val/psnr_rgb"],
        "directions": ["maximize"],
        "sampler": RandomSampler,
        "seed": 3,
    }
    return Study(**{**arguments, **changes})


@pytest.mark.parametrize("storage", [None, "{}/study.journal"])
def test_two_workers_share_a_study_and_leave_no_gap(tmp_path: Path, storage: str | None) -> None:
    place = storage and storage.format(tmp_path)
    first, second = (study(tmp_path, storage=place) for _ in range(2))
    asked = [worker.ask(4) for worker in (first, second, first, second)]
    assert first.ask(4) is None
    assert [one.number for one in asked if one] == [0, 1, 2, 3]
    assert len({one.overrides[0] for one in asked if one}) == 4  # the same seed, other draws
    for worker, one in zip((first, second, first, second), asked, strict=True):
        worker.tell(one, "done", [1.0])
    assert first.counts() == {"done": 4, "stopped": 0, "failed": 0, "running": 0}


def test_a_search_is_repeatable(tmp_path: Path) -> None:
    draws = []
    for name in ("one", "two"):
        worker = study(tmp_path / name)
        draws.append([worker.ask(3).overrides for _ in range(3)])
    assert draws[0] == draws[1]


def test_a_dead_workers_trial_is_taken_up(tmp_path: Path) -> None:
    lost = study(tmp_path).ask(2)
    worker = study(tmp_path)
    assert worker.ask(2).number == 1  # while its worker lives, a trial is left alone
    lost.lock.release()  # what the system does when a process dies
    again = worker.ask(2)
    assert (again.number, again.overrides) == (lost.number, lost.overrides)


def test_a_trial_whose_worker_died_while_it_was_drawn_is_dropped(tmp_path: Path) -> None:
    worker = study(tmp_path)
    optuna.load_study(
        study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}", sampler=RandomSampler()
    ).ask()  # a trial without parameters
    assert worker.ask(1).number == 1
    assert worker.counts()["running"] == 1


def test_points_are_not_tried_twice(tmp_path: Path) -> None:
    worker = study(tmp_path, searched={"a": CategoricalDistribution(["x", "y", "z"])})
    points = []
    while asked := worker.ask(10):
        points += asked.overrides
        worker.tell(asked, "done", [0.0])
    assert sorted(points) == ["a=x", "a=y", "a=z"]


@pytest.mark.parametrize(
    "change",
    [
        {"searched": {"a": FloatDistribution(0, 2)}},
        {"fixed": ["model=rfdn"]},
        {"keys": ["eff/flops_g"]},
    ],
)
def test_a_study_about_something_else_is_refused(tmp_path: Path, change: dict) -> None:
    study(tmp_path)
    with pytest.raises(UserError, match=r"the study s .*sweep\.name=OTHER"):
        study(tmp_path, **change)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@nowhere.invalid/x",
        "postgresql://me@nowhere.invalid/x?password=secret",
        "unheard://me:secret@h/x",
        "sqlite:////nowhere/x.db",
    ],
)
def test_an_unreachable_database_keeps_its_secrets(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"cannot open sweep\.storage") as caught:
        open_storage(url, tmp_path)
    assert "secret" not in str(caught.value)
    assert "secret" not in hidden(url)


def test_the_front_holds_what_nothing_beats() -> None:
    values = [[30, 5], [29, 3], [28, 4], [31, 9], [30, 5.5]]
    records = {n: {"status": "done", "values": v} for n, v in enumerate(values)}
    assert results.front(records, ["maximize", "minimize"]) == [3, 0, 1]
    assert results.front(
        {n: {"status": "done", "values": v[:1]} for n, v in enumerate(values)}, ["maximize"]
    ) == [3]


def test_the_sweep_of_weights_and_biases_drives_the_same_command() -> None:
    sweep = yaml.safe_load((TRAIN.parent / "docs" / "wandb_sweep.yaml").read_text())
    point = {
        key: values["values"][0] if "values" in values else values["min"]
        for key, values in sweep["parameters"].items()
    }
    typed = [word for word in sweep["command"] if "=" in word]  # then ${args_no_hyphens}: key=value
    cfg = compose("train", [*typed, *(f"{key}={value}" for key, value in point.items())])
    objective.check(sweep["metric"]["name"], ["any"])
    assert objective.directions(sweep["metric"]["name"]) == [sweep["metric"]["goal"]]
    assert (cfg.optim.lr, cfg.model.width) == (point["optim.lr"], point["model.width"])


@pytest.mark.parametrize("name", [n for n in options("sweep") if n != "grid"])
def test_presets_search_keys_that_exist(name: str) -> None:
    cfg = LOADER.load_configuration(
        "train", [f"sweep={name}", "model.depth=2,4"], run_mode=RunMode.MULTIRUN
    )
    fixed, found = space.split([f"sweep={name}", "model.depth=2,4"], cfg.sweep.space, LOADER)
    point = compose("train", [*fixed, *space.corner(found)])
    assert "depth" in point.model
    assert cfg.hydra.mode == RunMode.MULTIRUN
    objective.check(cfg.objective, ["any"])


def test_unknown_objectives_list_what_is_measured() -> None:
    with pytest.raises(UserError, match=r"val/psnr is not measured.*val/B/ssim_y.*eff/flops_g"):
        objective.check("val/psnr", ["A", "B"])
    objective.check(["val/A/psnr_y", "eff/runtime_ms"], ["A", "B"])
    objective.check(["val/A/psnr_y", "eff/runtime_ms"], None)  # before the data is looked at
    with pytest.raises(UserError, match="val/psnr is not measured"):
        objective.check("val/A/psnr", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": "abc"}, "sweep.trials=abc: expected a whole number"),
        ({"trials": 0}, "sweep.trials=0: expected a whole number"),
        ({"parallel": -1}, "sweep.parallel=-1: expected"),
        ({"directions": ["up"]}, "expected one of maximize or minimize"),
        ({"directions": ["maximize", "minimize"]}, "for each of val/psnr_rgb"),
    ],
)
def test_numbers_and_directions_are_checked_before_a_study_is_opened(
    change: dict, message: str
) -> None:
    config = SimpleNamespace(objective="val/psnr_rgb")
    given = {"config": config, "trials": 3, "parallel": None, "directions": None, **change}
    with pytest.raises(UserError, match=message):
        search.run(SimpleNamespace(**given), [])


def test_a_search_whose_trials_all_diverge_ends_and_says_so(tmp_path: Path) -> None:
    def diverge(jobs: list[list[str]], first: int) -> None:
        scores = {"val/psnr_rgb": math.nan}
        for number, job in enumerate(jobs, first):
            trial.run(tmp_path / str(number), job, "val/psnr_rgb", lambda: scores)

    hydra = SimpleNamespace(sweep=SimpleNamespace(dir=str(tmp_path)), launcher={})
    sweeper = SimpleNamespace(
        config=SimpleNamespace(objective="val/psnr_rgb", hydra=hydra),
        context=SimpleNamespace(config_loader=LOADER),
        compose=lambda overrides: None,
        launch=diverge,
        name="s", trials=9, parallel=None, space={}, directions=None,
        sampler=RandomSampler, storage=None, seed=0,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"all 3 trials failed, the last: the objective is \[nan\]"):
        search.run(sweeper, ["optim.lr=interval(1e-4,1e-2)"])
    assert [row["status"] for row in rows(tmp_path)] == ["failed"] * 3


def test_the_trials_of_a_sweep_are_one_group(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_RUN_GROUP", "")  # which W&B reads where none is configured
    monkeypatch.delenv("WANDB_RUN_GROUP")
    place = tmp_path / "width_sweep" / "0"
    trial.run(place, ["a=1"], "val/psnr_rgb", lambda: {"val/psnr_rgb": 30.0})
    assert os.environ["WANDB_RUN_GROUP"] == "width_sweep"


def test_a_trial_is_done_once_and_only_with_its_own_overrides(tmp_path: Path) -> None:
    def fail() -> dict:
        raise AssertionError("trained again")

    typed = ["a=1", "sweep.storage=postgresql://me:secret@h/x"]
    metrics = trial.run(tmp_path, typed, "val/psnr_rgb", lambda: {"val/psnr_rgb": 30.0})
    assert trial.run(tmp_path, typed, "val/psnr_rgb", fail) == metrics
    assert "secret" not in (tmp_path / trial.RECORD).read_text()
    with pytest.raises(UserError, match="another trial"):
        trial.run(tmp_path, ["a=2"], "val/psnr_rgb", fail)


def test_a_failed_trial_is_recorded_and_tried_again(tmp_path: Path) -> None:
    def out_of_memory() -> dict:
        raise MemoryError("no room")

    with pytest.raises(MemoryError):
        trial.run(tmp_path, ["a=1"], "val/psnr_rgb", out_of_memory)
    record = json.loads((tmp_path / trial.RECORD).read_text())
    assert (record["status"], record["error"]) == ("failed", "MemoryError: no room")
    trial.run(tmp_path, ["a=1"], "val/psnr_rgb", lambda: {"val/psnr_rgb": 30.0})


def wait_for(folder: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while len(list(folder.glob(f"*/{trial.RECORD}"))) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the sweep does not get on"
        time.sleep(0.05)


def kill(process: subprocess.Popen) -> None:
    """The whole session at once, as when a machine goes down."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def survives(tmp_path: Path, photos: Path, trials: int, workers: list[list[str]]) -> None:
    """Kill a two-objective search in the middle, start it again, and look at all it left."""
    folder = tmp_path / "runs" / "sweeps" / "pareto"
    command = [
        *tiny(photos), "sweep=pareto", f"sweep.trials={trials}", "trainer.max_steps=6",
        "objective=[val/psnr_rgb,eff/flops_g]",
        "optim.lr=tag(log,interval(1e-4,1e-2))", "model.width=range(8,25,step=4)",
    ]  # fmt: skip
    processes = [start(tmp_path, *command, *extra) for extra in workers]
    wait_for(folder, trials // 3, processes[0])
    for process in processes:
        kill(process)
    before = {n: record["values"] for n, record in results.read(folder).items()}
    assert trials // 3 <= len(before) < trials
    for text in map(finish, [start(tmp_path, *command, *extra) for extra in workers]):
        assert "Pareto front" in text
    found = rows(folder)
    assert len(found) == trials
    assert {row["status"] for row in found} == {"done"}
    assert len({(row["optim.lr"], row["model.width"]) for row in found}) == trials
    assert {n: results.read(folder)[n]["values"] for n in before} == before
    assert all(math.isfinite(float(row["val/psnr_rgb"])) for row in found)
    assert (folder / results.PICTURE).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_search_of_two_terminals_survives_a_kill(tmp_path: Path, photos: Path) -> None:
    survives(tmp_path, photos, 12, [[], []])


def test_a_small_search_survives_a_kill(tmp_path: Path, photos: Path) -> None:
    survives(tmp_path, photos, 3, [[]])


@pytest.mark.slow
def test_a_search_with_two_processes_of_joblib_survives_a_kill(
    tmp_path: Path, photos: Path
) -> None:
    survives(tmp_path, photos, 6, [["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])


def test_a_grid_goes_on_after_a_failure_and_tells(tmp_path: Path, photos: Path) -> None:
    swept = ["model.esa_width=4,0", "optim.lr=1e-3,1e-4", "hydra.sweep.dir=grid"]
    process = start(tmp_path, "-m", *tiny(photos), *swept)
    text, _ = process.communicate(timeout=200)
    found = rows(tmp_path / "grid")
    assert [row["status"] for row in found] == ["done", "done", "failed", "failed"]
    assert [float(row["optim.lr"]) for row in found] == [1e-3, 1e-4] * 2
    assert process.returncode == 1
    assert "error: 2 of 4 trials failed" in text
    assert "--config-dir grid/" in text
    assert "Traceback" not in text


def test_a_recipe_starts_no_processes_in_a_sweep_either(tmp_path: Path, photos: Path) -> None:
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    swept = ["+stages.only={}", "optim.lr=1e-3,1e-4", "hydra.sweep.dir=grid"]
    text, _ = start(tmp_path, "-m", *tiny(photos), *ranks, *swept).communicate(timeout=200)
    assert "error: 2 of 2 trials failed, the first: a job of a sweep cannot start 2" in text
    assert not list(tmp_path.glob("grid/*/only/checkpoints"))


@pytest.mark.slow
def test_a_hopeless_trial_is_stopped(tmp_path: Path, photos: Path) -> None:
    text = finish(
        start(
            tmp_path, *tiny(photos), "sweep=optuna", "sweep.trials=6", "trainer.max_steps=20",
            "sweep.pruner.n_startup_trials=1", "optim.lr=tag(log,interval(1e-6,1e-2))",
        )
    )  # fmt: skip
    found = rows(tmp_path / "runs" / "sweeps" / "optuna")
    states = {row["status"] for row in found}
    assert states == {"done", "stopped"}, text
    best = max(float(row["val/psnr_rgb"]) for row in found if row["status"] == "done")
    stopped = [row for row in found if row["status"] == "stopped"]
    assert all(float(row["error"].rpartition(" ")[2]) < best for row in stopped)
