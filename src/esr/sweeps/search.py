"""A search from the first question to the last answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esr.console import say
from esr.errors import UserError
from esr.evaluation import objective
from esr.sweeps import results, space, trial
from esr.sweeps.study import Asked, Study

PATIENCE = 3
"""So many failures before anything succeeded end a search: it would only repeat them."""

DIRECTIONS = ("maximize", "minimize")


def run(sweeper: Any, typed: Sequence[str]) -> None:
    """Run trials until the study has as many as asked for, then tell what they gave.

    Args:
        sweeper: a `hydra_plugins.esr_sweepers.Search`, set up.
        typed: the overrides of the command line.

    Raises:
        UserError: the space, the objective or the storage does not fit, or nothing works.
    """
    cfg = sweeper.config
    objective.check(cfg.objective, None)
    directions = sweeper.directions or objective.directions(cfg.objective)
    _check(sweeper, directions, objective.keys(cfg.objective))
    fixed, searched = space.split(typed, sweeper.space, sweeper.context.config_loader)
    sweeper.compose([*fixed, *space.corner(searched)])  # unknown keys are told before anything
    folder = Path(cfg.hydra.sweep.dir)
    study = Study(
        name=sweeper.name,
        storage=sweeper.storage,
        folder=folder,
        searched=searched,
        fixed=trial.public(fixed),
        keys=objective.keys(cfg.objective),
        directions=directions,
        sampler=sweeper.sampler,
        seed=sweeper.seed,
    )
    _announce(study, sweeper, searched, folder)
    parallel = sweeper.parallel or cfg.hydra.launcher.get("n_jobs") or 1
    failures: list[str] = []
    counts = study.counts()
    while batch := _batch(study, sweeper.trials, parallel):
        todo = [asked for asked in batch if trial.read(folder / str(asked.number)) is None]
        error = _launch(sweeper, todo, fixed) if todo else ""  # some may have ended untold
        for asked in batch:
            failures += _tell(study, asked, folder, error)
        results.write(folder)
        counts = study.counts()
        _progress(batch, folder, counts, sweeper.trials)
        if not _useful(counts) and len(failures) >= PATIENCE:
            break
    failures = results.report(folder, directions)
    if failures and not _useful(counts):
        raise UserError(f"all {len(failures)} trials failed, the last: {failures[-1]}")
    if sum(counts.values()) < sweeper.trials:
        say("the space has no more points than these; widen it to go on")


def _check(sweeper: Any, directions: Sequence[str], keys: Sequence[str]) -> None:
    """Refuse what Optuna would stumble over, before a study is opened."""
    for name, number in (("trials", sweeper.trials), ("parallel", sweeper.parallel or 1)):
        if not isinstance(number, int) or number < 1:
            raise UserError(f"sweep.{name}={number}: expected a whole number, at least 1")
    wrong = [direction for direction in directions if direction not in DIRECTIONS]
    if wrong or len(directions) != len(keys):
        raise UserError(
            f"sweep.directions={list(directions)}: expected one of {' or '.join(DIRECTIONS)} for "
            f"each of {', '.join(keys)}; leave it out, and costs go down and the others up"
        )


def _useful(counts: dict[str, int]) -> bool:
    """Whether any trial has shown that the search can succeed."""
    return bool(counts["done"] or counts["stopped"] or counts["running"])


def _announce(study: Study, sweeper: Any, searched: space.Space, folder: Path) -> None:
    counts = study.counts()
    missing = max(0, sweeper.trials - sum(counts[name] for name in ("done", "stopped", "failed")))
    known = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    for line in (
        f"search             {sweeper.name}: {', '.join(searched)}",
        f"trials             {sweeper.trials}, {missing} to go{f' ({known})' if known else ''}",
        f"folder             {folder}",
    ):
        say(line)
    if not missing:
        more = f"sweep.trials={2 * sweeper.trials}"
        say(f"the search is finished: {more} adds to it, sweep.name=OTHER starts another")


def _batch(study: Study, trials: int, parallel: int) -> list[Asked]:
    """Up to `parallel` trials; empty at the end."""
    batch: list[Asked] = []
    while len(batch) < parallel and (asked := study.ask(trials)) is not None:
        batch.append(asked)
    return batch


def _launch(sweeper: Any, batch: Sequence[Asked], fixed: Sequence[str]) -> str:
    """Run a batch; what went wrong beside the trials' own records."""
    jobs = [
        [*fixed, *asked.overrides, f"hydra.sweep.subdir={asked.number}"]  # whatever the position
        for asked in batch
    ]
    try:
        sweeper.launch(jobs, batch[0].number)
    except Exception as error:  # a process of the launcher died: the trials' records tell
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _tell(study: Study, asked: Asked, folder: Path, error: str) -> list[str]:
    """Pass a trial's record on; returns its error, if it failed."""
    place = folder / str(asked.number)
    record = trial.read(place)
    if record is None:
        error = error or "it ended without a record"
        record = {"overrides": asked.overrides, "status": "failed", "error": error}
        trial.write(place, record)
    values = record.get("values")
    if values is not None and not all(abs(value) < float("inf") for value in values):
        record |= {"status": "failed", "error": f"the objective is {values}", "values": None}
        trial.write(place, record)
        values = None
    study.tell(asked, values, stopped=record["status"] == "stopped")
    return [record["error"]] if record["status"] == "failed" else []


def _progress(batch: Sequence[Asked], folder: Path, counts: dict[str, int], trials: int) -> None:
    ended = sum(counts[name] for name in ("done", "stopped", "failed"))
    for asked in batch:
        record = trial.read(folder / str(asked.number))
        assert record is not None
        told = record.get("error") or ", ".join(f"{value:.4g}" for value in record["values"])
        say(
            f"trial {asked.number} ({ended} of {trials}) {record['status']}: "
            f"{' '.join(asked.overrides)} -> {told}"
        )
