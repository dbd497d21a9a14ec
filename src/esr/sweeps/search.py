"""A search from the first question to the last answer."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esr.console import say
from esr.errors import UserError
from esr.evaluation import objective
from esr.sweeps import results, space, trial
from esr.sweeps.study import Asked, Study
from esr.sweeps.sweepers import SearchTrials

PATIENCE = 3
"""So many failures before anything succeeded end a search: it would only repeat them."""

DIRECTIONS = ("maximize", "minimize")


def run(sweeper: SearchTrials, typed: Sequence[str]) -> None:
    """Run trials until the study has as many as asked for, then tell what they gave.

    Raises:
        UserError: the space, the objective or the storage does not fit, or nothing works.
    """
    cfg = sweeper.config
    objective.check(cfg.objective, None)
    keys = objective.keys(cfg.objective)
    directions = sweeper.directions or objective.directions(cfg.objective)
    _check(sweeper, directions, keys)
    fixed, searched = space.split(typed, sweeper.space, sweeper.context.config_loader)
    sweeper.compose([*fixed, *space.corner(searched)])  # unknown keys are told before anything
    folder = Path(cfg.hydra.sweep.dir)
    study = Study(
        name=sweeper.name,
        storage=sweeper.storage,
        folder=folder,
        searched=searched,
        fixed=trial.public(fixed),
        keys=keys,
        directions=directions,
        sampler=sweeper.sampler,
        seed=sweeper.seed,
    )
    counts = study.counts()
    _announce(sweeper, searched, counts, folder)
    parallel = sweeper.parallel or cfg.hydra.launcher.get("n_jobs") or 1
    failures: list[str] = []
    while batch := _batch(study, sweeper.trials, parallel):
        todo = [asked for asked in batch if trial.read(folder / str(asked.number)) is None]
        error = _launch(sweeper, todo, fixed) if todo else ""  # some may have ended untold
        records = [_tell(study, asked, folder / str(asked.number), error) for asked in batch]
        results.write(folder)
        counts = study.counts()
        for asked, record in zip(batch, records, strict=True):
            told = record.get("error") or ", ".join(f"{value:.4g}" for value in record["values"])
            say(
                f"trial {asked.number} ({_ended(counts)} of {sweeper.trials}) {record['status']}: "
                f"{' '.join(asked.overrides)} -> {told}"
            )
        failures += [record["error"] for record in records if record["status"] == "failed"]
        if not _useful(counts) and len(failures) >= PATIENCE:
            break
    failures = results.report(folder, directions)
    if failures and not _useful(counts):
        raise UserError(f"all {len(failures)} trials failed, the last: {failures[-1]}")
    if sum(counts.values()) < sweeper.trials:
        say("the space has no more points than these; widen it to go on")


def _check(sweeper: SearchTrials, directions: Sequence[str], keys: Sequence[str]) -> None:
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


def _ended(counts: dict[str, int]) -> int:
    return sum(counts.values()) - counts["running"]


def _announce(
    sweeper: SearchTrials, searched: space.Space, counts: dict[str, int], folder: Path
) -> None:
    missing = max(0, sweeper.trials - _ended(counts))
    known = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    say(f"search             {sweeper.name}: {', '.join(searched)}")
    say(f"trials             {sweeper.trials}, {missing} to go{f' ({known})' if known else ''}")
    say(f"folder             {folder}")
    if not missing:
        more = f"sweep.trials={2 * sweeper.trials}"
        say(f"the search is finished: {more} adds to it, sweep.name=OTHER starts another")


def _batch(study: Study, trials: int, parallel: int) -> list[Asked]:
    """Up to `parallel` trials; empty at the end."""
    batch: list[Asked] = []
    while len(batch) < parallel and (asked := study.ask(trials)) is not None:
        batch.append(asked)
    return batch


def _launch(sweeper: SearchTrials, batch: Sequence[Asked], fixed: Sequence[str]) -> str:
    """Run a batch; what went wrong beside the trials' own records."""
    jobs = [
        [*fixed, *asked.overrides, f"hydra.sweep.subdir={asked.number}"]  # whatever the position
        for asked in batch
    ]
    try:
        sweeper.launch(jobs, batch[0].number)
    except Exception as error:  # a process of the launcher died: the trials' records tell
        return trial.line(error)
    return ""


def _tell(study: Study, asked: Asked, place: Path, error: str) -> dict[str, Any]:
    """Tell the study how a trial ended, and return its record.

    One that is missing, because its process died, is written here, and one without a finite value
    counts as failed.
    """
    record = trial.read(place)
    if record is None:
        error = error or "it ended without a record"
        record = {"overrides": asked.overrides, "status": "failed", "error": error}
        trial.write(place, record)
    if not all(map(math.isfinite, record.get("values", ()))):
        record |= {"status": "failed", "error": f"the objective is {record.pop('values')}"}
        trial.write(place, record)
    study.tell(asked, record["status"], record.get("values"))
    return record
