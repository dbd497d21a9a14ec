"""A search's memory: an Optuna study on disk or in a database, used through ask and tell.

Hydra's own Optuna plugin is not used: it pins Optuna 2, whose storage fails with a current
SQLAlchemy, and without a storage a search neither survives a crash nor is shared by workers.

A worker holds a file lock for each trial it runs. The system frees it when the worker dies, however
it dies; whoever asks next takes up a trial that is running in the study and that nobody holds.
"""

import json
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from esr.config import build
from esr.errors import UserError
from esr.sweeps import space
from esr.sweeps.space import Space

STATES = {
    "done": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}
"""How the record of a trial calls Optuna's."""

_DRAWS = 1000  # of points that were tried before, until the space counts as exhausted

logging.getLogger("optuna").setLevel(logging.WARNING)


class Asked(NamedTuple):
    """A trial to be run, held by this process until it is told."""

    number: int
    overrides: list[str]
    lock: FileLock


class Study:
    """Trials over a space: which one is next, and how each ended.

    Raises:
        UserError: the storage cannot be opened, or its study is about something else.
    """

    def __init__(
        self,
        name: str,  # of the study in its storage
        storage: str | None,  # see `open_storage`
        folder: Path,  # of the sweep
        searched: Space,
        fixed: Sequence[str],  # the overrides which all trials share
        keys: Sequence[str],  # of the objectives
        directions: Sequence[str],  # `maximize` or `minimize` for each of them
        sampler: Callable[..., optuna.samplers.BaseSampler],  # takes `seed`
        seed: int,  # trial n is drawn with seed + n: workers that share a study do not draw alike
    ):
        self.space, self.sampler, self.seed = searched, sampler, seed
        self._locks = folder / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        about = {
            "space": {key: distribution_to_json(d) for key, d in searched.items()},
            "fixed": sorted(fixed),
            "objectives": list(keys),
        }
        with self._alone():
            self._study = optuna.create_study(
                storage=open_storage(storage, folder),
                study_name=name,
                directions=list(directions),  # pyright: ignore[reportArgumentType]
                load_if_exists=True,
            )
            known = self._study.user_attrs.get("about")
            if known is None:
                self._study.set_user_attr("about", about)
        if known is not None and known != about:
            raise UserError(_difference(name, known, about))

    def ask(self, trials: int) -> Asked | None:
        """The next trial: one that a dead worker left, else a new one while there are too few.

        None: there are enough, or every point of the space has been tried.
        """
        with self._alone():
            for trial in self._tried():
                if trial.state == TrialState.RUNNING and self._is_mine(trial):
                    lock = self._hold(trial.number)
                    if lock is None:
                        continue
                    if trial.params.keys() == self.space.keys():
                        return self._asked(trial, lock)
                    self._drop(trial.number)  # its worker died while it was drawn
                    lock.release()
            return None if len(self._tried()) >= trials else self._new()

    def tell(self, asked: Asked, status: str, values: Sequence[float] | None = None) -> None:
        """How a trial ended: `done` with values, `stopped` early, or `failed`."""
        self._study.tell(asked.number, values, STATES[status], skip_if_finished=True)
        asked.lock.release()

    def counts(self) -> dict[str, int]:
        """Trials by how they ended."""
        states = [trial.state for trial in self._tried()]
        return {name: states.count(state) for name, state in STATES.items()}

    def _new(self) -> Asked | None:
        points = [trial.params for trial in self._tried()]
        draw = self.seed + len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self.sampler(seed=draw)
        trial = self._study.ask(self.space)
        if trial.params in points:  # a small space, or a sure sampler: nothing would be learnt
            self._drop(trial.number)
            point = self._untried(points, draw)
            if point is None:
                return None
            self._study.enqueue_trial(point)
            trial = self._study.ask(self.space)
        trial.set_user_attr("host", socket.gethostname())
        lock = self._hold(trial.number)
        assert lock is not None, "a new trial is nobody's"
        return self._asked(trial, lock)

    def _tried(self) -> list[FrozenTrial]:
        """All that ran, run or are to be taken up: none that was dropped, none not yet drawn."""
        attributes = self._study.user_attrs
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if f"dropped {trial.number}" not in attributes and trial.state != TrialState.WAITING
        ]

    def _drop(self, number: int) -> None:
        """Forget a trial that will never run."""
        self._study.set_user_attr(f"dropped {number}", True)
        self._study.tell(number, state=TrialState.FAIL)

    def _untried(self, points: Sequence[dict[str, Any]], seed: int) -> dict[str, Any] | None:
        """A random point that is not among `points`; None: there seems to be none left."""
        sampler = optuna.samplers.RandomSampler(seed)
        for _ in range(_DRAWS):
            point = {
                key: sampler.sample_independent(self._study, None, key, distribution)  # pyright: ignore[reportArgumentType]
                for key, distribution in self.space.items()
            }
            if point not in points:
                return point
        return None

    def _asked(self, trial: FrozenTrial | optuna.Trial, lock: FileLock) -> Asked:
        return Asked(trial.number, space.overrides(self.space, trial.params), lock)

    def _is_mine(self, trial: FrozenTrial) -> bool:
        """Whether its worker ran on this machine, whose locks can be seen."""
        return trial.user_attrs.get("host", socket.gethostname()) == socket.gethostname()

    def _hold(self, number: int) -> FileLock | None:
        lock = FileLock(self._locks / f"{number}.lock")
        with suppress(Timeout):
            return lock.acquire(timeout=0) and lock
        return None

    def _alone(self) -> FileLock:
        return FileLock(self._locks / "study.lock")


def reporter(sweeper: Mapping[str, Any], folder: Path) -> Callable[[float, int], bool]:
    """A function that tells the study a running trial's value at a step; True: it is hopeless.

    `sweeper` configures `hydra_plugins.esr_sweepers.Search`; the trial's folder is its number.
    """
    storage = open_storage(sweeper["storage"], folder.parent)
    study = optuna.load_study(
        study_name=sweeper["name"],
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),  # nothing is drawn here
        pruner=build(sweeper["pruner"]),
    )
    study_id = storage.get_study_id_from_name(sweeper["name"])
    number = storage.get_trial_id_from_study_id_trial_number(study_id, int(folder.name))
    trial = optuna.trial.Trial(study, number)

    def report(value: float, step: int) -> bool:
        trial.report(value, step)
        return trial.should_prune()

    return report


def _difference(name: str, known: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """One line: what the study is about and what was typed now."""
    for part in ("objectives", "space", "fixed"):
        if known[part] != asked[part]:
            break
    old, new = known[part], asked[part]
    if part == "space":
        keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
        old, new = ({k: _short(space_.get(k)) for k in keys} for space_ in (old, new))
    elif part == "fixed":
        old, new = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    return (
        f"the study {name} was started with other {'overrides' if part == 'fixed' else part}: "
        f"{json.dumps(old)}, now {json.dumps(new)}. Go on with what it was started with, or "
        "choose sweep.name=OTHER"
    )


def _short(distribution: str | None) -> str:
    if distribution is None:
        return "absent"
    values = json.loads(distribution)["attributes"]
    return str(values.get("choices") or f"{values['low']}..{values['high']}")


def open_storage(storage: str | None, folder: Path) -> BaseStorage:
    """A database that many machines reach by its URL, a journal file, or SQLite in `folder`.

    Raises:
        UserError: the database cannot be reached; passwords are not shown.
    """
    if storage is not None and "://" not in storage:
        return JournalStorage(JournalFileBackend(storage))
    url = storage or f"sqlite:///{folder.resolve() / 'study.db'}"
    # SQLite has one writer at a time; others wait instead of failing.
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    try:
        return RDBStorage(url, options)
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        raise UserError(f"cannot open sweep.storage={hidden(url)}: {_reason(error, url)}") from None


def hidden(url: str) -> str:
    """The URL without its secrets."""
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return f"{url.partition('://')[0]}://..."


def _reason(error: BaseException, url: str) -> str:
    if isinstance(error, ImportError) or "ImportError" in str(error) or "No module" in str(error):
        driver = "psycopg2-binary" if url.startswith("postgresql") else "the database's driver"
        return f"install {driver}"
    cause = getattr(error, "orig", None) or error
    line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    try:
        parsed = make_url(url)
        secrets = [parsed.password, *parsed.query.values()]
    except (ArgumentError, ValueError):
        secrets = [url]
    for secret in filter(None, secrets):
        line = line.replace(str(secret), "***")
    return line
