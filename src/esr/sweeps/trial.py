"""A sweep's job as it sees itself: its record, and whether it is worth going on.

FOLDER/trial.json    overrides, status (`done`, `stopped` early, `failed`), values, metrics, seconds

A job that is started again, because the sweep was killed or a cluster requeued it, finds its record
and returns it, or goes on from its last checkpoint.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig

from esr.console import rule
from esr.errors import UserError
from esr.evaluation import objective
from esr.files import read_json, write_json
from esr.sweeps.hopeless import Hopeless, StopHopeless
from esr.training.processes import follows

RECORD = "trial.json"
LOCK = "trial.lock"

# How the sweep is run is no matter of a trial; a storage's URL has a password.
_NOT_ITS = ("sweep.", "sweep=", "hydra.", "hydra/")


def public(overrides: Sequence[str]) -> list[str]:
    """The overrides without those that concern the sweep as a whole."""
    return [o for o in overrides if not o.lstrip("+").startswith(_NOT_ITS)]


def run(
    place: Path, typed: Sequence[str], keys: objective.Objective, train: Callable[[], dict]
) -> dict[str, float]:
    """Train in the job's folder unless it is done already, and record there how it ended.

    Returns:
        The metrics, as `train` gave them.

    Raises:
        UserError: the folder holds a trial of something else.
        Exception: what `train` raised, after it was recorded.
    """
    if follows():  # the first process looks and records
        return train()
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / LOCK):  # a job whose sweep was killed may still be running: wait for it
        return _run(place, public(typed), keys, train)


def _run(
    place: Path, overrides: list[str], keys: objective.Objective, train: Callable[[], dict]
) -> dict[str, float]:
    if earlier := read(place):
        if earlier["overrides"] != overrides:
            raise UserError(
                f"{place} holds another trial ({' '.join(earlier['overrides'])}): a sweep goes on "
                "with what it was started with; choose another folder"
            )
        if earlier["status"] == "done":
            return earlier["metrics"]
    # W&B puts the runs of a sweep together; what the user has set goes first.
    os.environ.setdefault("WANDB_RUN_GROUP", place.parent.name)
    rule(f"trial {place.name}")
    started = time.monotonic()
    ended: dict[str, Any] = {}
    try:
        metrics = train()
        objective.values(metrics, keys)  # refuses one that was not measured
        values = [metrics[key] for key in objective.keys(keys)]
        ended = {"status": "done", "values": values, "metrics": metrics}
        return metrics
    except Hopeless as error:
        ended = {"status": "stopped", "error": str(error)}
        raise
    except Exception as error:
        ended = {"status": "failed", "error": line(error)}
        raise
    finally:
        if ended:  # not after Ctrl-C: it will go on
            seconds = {"seconds": round(time.monotonic() - started, 1)}
            about = {"overrides": overrides, "objective": objective.keys(keys)}
            write(place, about | ended | seconds)


def read(place: Path) -> dict[str, Any] | None:
    """The record of the trial in a folder, None if it has not ended."""
    return read_json(place / RECORD) if (place / RECORD).is_file() else None


def write(place: Path, record: dict[str, Any]) -> None:
    """Leave the record of a trial in its folder."""
    write_json(place / RECORD, record)


def callbacks(place: Path, keys: objective.Objective) -> list[pl.Callback]:
    """Early stopping of a hopeless trial, where a search has a pruner for one objective."""
    sweeper = HydraConfig.get().sweeper
    if sweeper.get("pruner") is None or not isinstance(keys, str):
        return []
    from esr.sweeps.study import reporter  # a grid runs without Optuna

    return [StopHopeless(keys, reporter(sweeper, place))]


def line(error: BaseException) -> str:
    """What an error says, in one line; its kind too, unless it is the user's mistake."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"[:2000]
