"""Stages as jobs: where each one lies, what identifies it, and the weights it starts from.

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

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from safetensors.torch import load_file, save_file
from torch import nn

from esr import teachers
from esr.callbacks.checkpoint import BEST, LAST
from esr.config import build, plain
from esr.errors import UserError
from esr.losses.weighted import WeightedLoss
from esr.recipe import Stage, smallest
from esr.surgery.fuse import deploy_config
from esr.weights import mismatch

INIT = "init.safetensors"
IRRELEVANT = ("name", "output", "objective", "logger", "stages", "stage", "entry", "budget", "init")
"""Keys that do not change what a stage computes."""


@dataclass
class Job:
    """A stage with its configuration, its folder and what identifies it.

    Args:
        stage: what the recipe says.
        cfg: the composed configuration; `cfg.run` is the folder.
        folder: of this stage's run.
        source: the earlier stage whose weights it takes.
        transforms: what is done to the earlier network first.
        teachers: loss term -> the earlier stage that teaches it.
        facts: the resolved configuration, flat, as far as it matters.
        digest: of the facts and of the stages it derives from.
    """

    stage: Stage
    cfg: DictConfig
    folder: Path
    source: "Job | None" = None
    transforms: list[Any] = field(default_factory=list)
    teachers: dict[str, "Job"] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    digest: str = ""

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.stage.name


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
        job = Job(stage, cfg, folder / stage.name)
        job.source = jobs.get(stage.init) if stage.init else None
        job.transforms = list(plain(cfg.stages[stage.key]).get("transform") or [])
        with open_dict(cfg):
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
    origin = job.source.digest if job.source else job.cfg.init
    values["start"] = {"weights": job.stage.weights, "transform": job.transforms}
    job.facts = dict(_flat(values))
    parents = [origin, *(teacher.digest for teacher in job.teachers.values())]
    text = json.dumps([job.facts, parents], sort_keys=True, default=str)
    job.digest = hashlib.sha256(text.encode()).hexdigest()


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values


def check(job: Job) -> None:
    """Build everything of a stage once with arbitrary weights, so that mistakes show at once.

    Networks, transforms, losses with their teachers, optimiser and schedule. Where a transform
    makes a network of another configuration (`fuse`), the stage's `model` becomes that one.

    Raises:
        UserError: something does not fit; the stage is named.
    """
    with blaming(job), torch.random.fork_rng(devices=[]):
        if job.stage.weights == "ema" and not _averages(job.source):
            raise UserError(
                "weights: ema, but the stage it starts from keeps no average "
                "(callbacks=[default,ema])"
            )
        if job.source:
            _settle(job, build(job.source.cfg.model))
        elif job.stage.init:
            _settle(job, teachers.load(job.stage.init))
        net = build(job.cfg.model)
        patch, least = smallest(job.cfg.data.patch_size), getattr(net, "min_size", 1)
        if job.cfg.trainer.max_steps > 0 and patch // job.cfg.scale < least:
            raise UserError(
                f"{type(net).__name__} needs LR patches of at least {least} pixels, and "
                f"data.patch_size={patch} makes {patch // job.cfg.scale}: set "
                f"data.patch_size={least * job.cfg.scale} or more"
            )
        terms = {}
        for name, term in job.cfg.loss.items():
            if name in job.teachers:
                make = build(
                    {k: v for k, v in plain(term).items() if k != "teacher"} | {"_partial_": True}
                )
                terms[name] = make(teacher=build(job.teachers[str(name)].cfg.model))
            elif term is not None:
                terms[name] = build(term)
        WeightedLoss(terms).bind(net)
        build(job.cfg.optim)
        if job.cfg.schedule is not None:
            build(job.cfg.schedule)


def start(job: Job) -> None:
    """Write the weights that the stage starts from into its folder.

    Raises:
        UserError: the earlier stage left no weights, or they do not fit.
    """
    if not (job.source or job.transforms):
        return
    with blaming(job), torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.cfg.seed)  # of what a transform makes afresh
        if job.source:
            net = build(job.source.cfg.model)
            net.load_state_dict(_weights(job.source, job.stage.weights))
        else:
            net = teachers.load(job.stage.init)
        state = _settle(job, net)
    job.folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    about = {"model": plain(job.cfg.model), "scale": job.cfg.scale, "name": job.cfg.name}
    temporary = job.folder / f"{INIT}.part"
    save_file(tensors, temporary, metadata={"format": "pt", "esr": json.dumps(about)})
    temporary.replace(job.folder / INIT)


def _settle(job: Job, net: nn.Module) -> dict[str, torch.Tensor]:
    """Transform the earlier network; its weights must then fit the stage's own."""
    model = None
    for transform in job.transforms:
        result = _function(transform)(net)
        net, model = result if isinstance(result, tuple) else (result, model)
    for config in (model, plain(job.cfg.model), deploy_config(plain(job.cfg.model))):
        if config is not None and not mismatch(net.state_dict(), build(config).state_dict()):
            with open_dict(job.cfg):
                job.cfg.model = config
            return net.state_dict()
    problem = mismatch(net.state_dict(), build(job.cfg.model).state_dict())
    raise UserError(
        f"the weights of {job.source.name if job.source else job.stage.init} do not fit its "
        f"model: {problem}"
    )


def _function(transform: Any) -> Any:
    """`fuse` is `esr.surgery.fuse.fuse`; a mapping names a function of the network and options."""
    if isinstance(transform, str):
        path = transform if "." in transform else f"esr.surgery.{transform}.{transform}"
        return build({"_target_": path, "_partial_": True})
    if not isinstance(transform, Mapping) or "_target_" not in transform:
        raise UserError(
            f"transform: a name such as fuse, or a mapping with _target_; got {transform}"
        )
    return build({**transform, "_partial_": True})


def _averages(job: Job | None) -> bool:
    callbacks = job.cfg.callbacks.values() if job else ()
    return any(callback and "EMA" in str(callback.get("_target_")) for callback in callbacks)


def _weights(job: Job, which: str) -> dict[str, torch.Tensor]:
    folder = job.folder / "checkpoints"
    path = folder / (BEST if which == "best" and (folder / BEST).is_file() else LAST)
    if not path.is_file():  # a stage without training hands on what it was given
        return load_file(job.folder / INIT)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    raw = which == "raw" and "current_model_state" in checkpoint
    state = checkpoint["current_model_state" if raw else "state_dict"]
    return {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
