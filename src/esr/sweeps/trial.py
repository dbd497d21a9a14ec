"""A sweep's job as it sees itself: its folder, its record, and whether it is worth going on.

FOLDER/trial.json    overrides, status (`done`, `stopped` early, `failed`), values, metrics, seconds

A job that is started again, because the sweep was killed or a cluster requeued it, finds its record
and returns it, or goes on from its last checkpoint.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from esr.console import rule
from esr.errors import UserError
from esr.evaluation import objective
from esr.files import write_json
from esr.sweeps.hopeless import Hopeless, StopHopeless
from esr.training.processes import follows

RECORD = "trial.json"
LOCK = "trial.lock"

# How the sweep is run is no matter of a trial; a storage's URL has a password.
_NOT_ITS = ("sweep.", "sweep=", "hydra.", "hydra/")


def folder() -> Path | None:
    """The folder of this job; None outside a sweep."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(HydraConfig.get().runtime.output_dir)
    return None


def public(overrides: Sequence[str]) -> list[str]:
    """The overrides without those that concern the sweep as a whole."""
    return [o for o in overrides if not o.lstrip("+").startswith(_NOT_ITS)]


def run(
    place: Path, typed: Sequence[str], keys: objective.Objective, train: Callable[[], dict]
) -> dict[str, float]:
    """Train unless it is done already, and leave a record of how it ended.

    Args:
        place: the job's folder.
        typed: its overrides.
        keys: of the objective(s).
        train: trains and returns the metrics.

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
    record = read(place)
    if record is not None:
        if record["overrides"] != overrides:
            raise UserError(
                f"{place} holds another trial ({' '.join(record['overrides'])}): a sweep goes on "
                "with what it was started with; choose another folder"
            )
        if record["status"] == "done":
            return record["metrics"]
    # W&B puts the runs of a sweep together; what the user has set goes first.
    os.environ.setdefault("WANDB_RUN_GROUP", place.parent.name)
    rule(f"trial {place.name}")
    started = time.monotonic()
    record = {"overrides": overrides, "objective": objective.keys(keys)}
    try:
        metrics = train()
        found = objective.values(metrics, keys)
    except Hopeless as error:
        record |= {"status": "stopped", "error": str(error)}
        raise
    except Exception as error:
        record |= {"status": "failed", "error": _line(error)}
        raise
    else:
        values = list(found) if isinstance(found, tuple) else [found]
        record |= {"status": "done", "values": values, "metrics": metrics}
        return metrics
    finally:
        if "status" in record:  # not after Ctrl-C: it will go on
            write(place, record | {"seconds": round(time.monotonic() - started, 1)})


def read(place: Path) -> dict[str, Any] | None:
    """The record of the trial in a folder, None if it has not ended."""
    path = place / RECORD
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    if "metrics" in record:  # NaN stands there as text
        record["metrics"] = {key: float(value) for key, value in record["metrics"].items()}
        record["values"] = [float(value) for value in record["values"]]
    return record


def write(place: Path, record: dict[str, Any]) -> None:
    """Leave the record of a trial in its folder."""
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / RECORD, record)


def callbacks(keys: objective.Objective) -> list[Any]:
    """Early stopping of a hopeless trial, where a search has a pruner for one objective."""
    sweeper = HydraConfig.get().sweeper if folder() is not None else {}
    if sweeper.get("pruner") is None or not isinstance(keys, str):
        return []
    from esr.sweeps.study import Reporter

    place = folder()
    assert place is not None
    return [StopHopeless(keys, Reporter(sweeper, place))]


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"[:2000]
