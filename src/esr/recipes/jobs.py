"""Stages as jobs: where each one lies, what it derives from, and what identifies it.

A stage folder is a run folder with two files more: `stage.json`, by which a later start recognises
it, and `init.safetensors`, the weights it started from in the form in which it trains.
"""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from esr.build import renewed
from esr.config import plain
from esr.errors import UserError
from esr.files import read_json
from esr.recipes.stages import Stage

STAGE = "stage.json"
INIT = "init.safetensors"
IRRELEVANT = ("name", "output", "objective", "logger", "stages", "stage", "entry", "budget", "init")
"""Keys that do not change what a stage computes."""


@dataclass
class Job:
    """A stage with its configuration, its folder and what identifies it."""

    stage: Stage  # what the recipe says
    cfg: DictConfig  # composed; `cfg.run` is the folder
    folder: Path  # of this stage's run
    source: "Job | None"  # the earlier stage whose weights it takes
    transforms: list[Any]  # what is done to the earlier network first
    model: dict[str, Any]  # the network as the recipe names it, before any transform
    teachers: dict[str, "Job"] = field(default_factory=dict)  # of loss terms: earlier stages
    facts: dict[str, Any] = field(default_factory=dict)  # the flat configuration that matters
    digest: str = ""  # of the facts and of the stages it derives from

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def parents(self) -> list["Job"]:
        """The earlier stages that it derives from."""
        return [*([self.source] if self.source else []), *self.teachers.values()]


@contextmanager
def blaming(job: Job) -> Iterator[None]:
    """Say in which stage the user's mistake lies."""
    try:
        yield
    except UserError as error:
        raise UserError(f"stage {job.name}: {error}") from error


def prepare(stages: Sequence[Stage], configs: Sequence[DictConfig], folder: Path) -> list[Job]:
    """Give every stage its folder and its identity, and find the stages it derives from.

    Raises:
        UserError: a teacher is a stage that comes later.
    """
    jobs: dict[str, Job] = {}
    for stage, cfg in zip(stages, configs, strict=True):
        job = Job(
            stage,
            cfg,
            folder / stage.name,
            source=jobs.get(stage.init) if stage.init else None,
            transforms=list(plain(cfg.stages[stage.key]).get("transform") or []),
            model=plain(cfg.model),
        )
        with open_dict(cfg):
            cfg.pop("sweep", None)  # how trials are chosen is no matter of a stage
            cfg.run = str(job.folder)
            cfg.name = f"{cfg.name or folder.name}_{stage.name}"
            cfg.stages, cfg.stage, cfg.resume = {}, None, None
            if job.source or job.transforms:
                cfg.init = str(job.folder / INIT)
            elif stage.init:
                cfg.init = stage.init
        with blaming(job):
            _find_teachers(job, jobs, [other.name for other in stages])
        _identify(job)
        # A recipe's key stands for the last of its repetitions.
        jobs[stage.name] = jobs[stage.key] = job
    return list({id(job): job for job in jobs.values()}.values())


def _find_teachers(job: Job, jobs: Mapping[str, Job], names: Sequence[str]) -> None:
    for term in job.cfg.loss:
        source = OmegaConf.select(job.cfg.loss, f"{term}.teacher.source")
        if not isinstance(source, str):
            continue
        if source in jobs:
            job.teachers[str(term)] = jobs[source]
            job.cfg.loss[term].teacher.source = str(jobs[source].folder)
        elif source in names:
            raise UserError(
                f"the teacher of {term} is stage {source}, which comes later. Before it: "
                f"{', '.join(dict.fromkeys(j.name for j in jobs.values())) or 'nothing'}"
            )


def _identify(job: Job) -> None:
    cfg = copy.deepcopy(job.cfg)
    with open_dict(cfg):
        cfg.run = "RUN"
        for term, teacher in job.teachers.items():
            cfg.loss[term].teacher.source = teacher.name
    values = {key: value for key, value in plain(cfg).items() if key not in IRRELEVANT}
    values["start"] = {"weights": job.stage.weights, "transform": job.transforms}
    job.facts = json.loads(json.dumps(dict(_flat(values)), default=str))
    origin = [] if job.source else [job.stage.init]
    job.digest = digest(job.facts, origin, [parent.digest for parent in job.parents])


def digest(facts: Mapping[str, Any], origin: Sequence[Any], parents: Sequence[str]) -> str:
    """What identifies a stage: what it is configured to do, and the same of what it derives from.

    `origin` is the `init` of a stage that takes its weights from outside the recipe; `parents` are
    the digests of `Job.parents`.
    """
    text = json.dumps([facts, [*origin, *parents]], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def recorded(job: Job) -> dict[str, Any]:
    """What the stage's folder says of itself: `digest` and `facts`."""
    return read_json(job.folder / STAGE)


def unchanged(job: Job) -> bool:
    """Whether a stage's folder holds what the stage is configured to do now.

    A record of version 0.1.0 names classes where they lay then, and a transformed stage's own file
    of weights in place of where they came from: it counts as the same if its facts are, but for
    that, and it is true to itself and to what it derives from.
    """
    stored = recorded(job)
    if stored["digest"] == job.digest:
        return True
    if renewed(stored["facts"]) != job.facts or not all(
        unchanged(parent) for parent in job.parents
    ):
        return False
    parents = [recorded(parent)["digest"] for parent in job.parents]
    origin = [] if job.source else [job.cfg.init]
    return stored["digest"] == digest(stored["facts"], origin, parents)


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values
