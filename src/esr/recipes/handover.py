"""What a stage starts from: the earlier stage's network, transformed, and its weights.

Everything is built once with arbitrary weights before the first stage runs (`check`), and again
with the real ones when a stage begins (`start`).
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from omegaconf import open_dict
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from esr.build import construct
from esr.config import build, plain
from esr.errors import UserError
from esr.files import write_tensors
from esr.losses.weighted import WeightedLoss
from esr.models.state import mismatch, network_state
from esr.recipes.jobs import INIT, Job, blaming
from esr.recipes.stages import smallest
from esr.surgery.calibration import Batch, batches
from esr.surgery.fuse import deploy_config
from esr.surgery.transform import read_transform
from esr.training.callbacks.checkpoint import BEST, LAST
from esr.zoo.open import load

OF_MODEL = ("model", "conv", "scale")
"""Overrides that begin so are about the network."""


def recall(job: Job) -> None:
    """Take over the network that the stage's folder has; a transform may have chosen it."""
    if (job.folder / INIT).is_file():
        with safe_open(job.folder / INIT, "pt") as file, open_dict(job.cfg):
            job.cfg.model = json.loads(file.metadata()["esr"])["model"]


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
            _settle(job, build(job.source.cfg.model), rehearse=True)
        elif job.stage.init:
            _settle(job, load(job.stage.init), rehearse=True)
        net = build(job.cfg.model)
        patch, least = smallest(job.cfg.data.patch_size), getattr(net, "min_size", 1)
        if job.cfg.trainer.max_steps > 0 and patch // job.cfg.scale < least:
            raise UserError(
                f"{type(net).__name__} needs LR patches of at least {least} pixels, and "
                f"data.patch_size={patch} makes {patch // job.cfg.scale}: set "
                f"data.patch_size={least * job.cfg.scale} or more"
            )
        terms = {name: plain(term) for name, term in job.cfg.loss.items() if term is not None}
        for name, teacher in job.teachers.items():  # which has no weights yet
            terms[name]["teacher"] = plain(teacher.cfg.model)
        WeightedLoss(
            {str(name): construct(term, f"loss.{name}") for name, term in terms.items()}
        ).bind(net)
        build(job.cfg.optim)
        if job.cfg.schedule is not None:
            build(job.cfg.schedule)


def check_data(jobs: Sequence[Job]) -> None:
    """Open the training data of all stages, each once, and see that their patches fit the images.

    Raises:
        UserError: data is missing or wrong, or a patch is larger than an image; the stage is named.
    """
    opened: dict[str, Any] = {}
    for job in jobs:
        if job.cfg.trainer.max_steps == 0:
            continue
        settings = plain(job.cfg.data)
        sizes = {key: settings.pop(key) for key in ("patch_size", "batch_size")}
        settings.pop("samples_per_epoch", None)
        source = json.dumps(settings, sort_keys=True, default=str)
        with blaming(job):
            if source not in opened:
                opened[source] = build(job.cfg.data)
                opened[source].prepare_data()
                opened[source].setup("fit")
            data = opened[source]
            data.patch_size, data.batch_size = sizes["patch_size"], sizes["batch_size"]
            if settings.get("store") != "gpu":  # whose loader would move the images there
                data.train_dataloader()


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
            net = load(str(job.stage.init))
        state = _settle(job, net)
    about = {"model": plain(job.cfg.model), "scale": job.cfg.scale, "name": job.cfg.name}
    write_tensors(job.folder / INIT, state, about)


def _settle(job: Job, net: nn.Module, rehearse: bool = False) -> dict[str, torch.Tensor]:
    """Transform the earlier network; its weights must then fit the stage's own.

    The stage's configuration becomes that of the result, where a transform says so. A stage that
    says nothing about its network goes on with the earlier stage's.
    """
    earlier = plain(job.source.cfg.model) if job.source else job.model
    made = None
    for entry in job.transforms:
        data = None if rehearse else _training_batches(job)
        net, made = read_transform(entry)(net, made or earlier, data)
    own = plain(job.cfg.model)
    said = any(override.lstrip("+~").startswith(OF_MODEL) for override in job.stage.overrides)
    for config in (made, own, deploy_config(own), None if said else earlier):
        if config is not None and not mismatch(net.state_dict(), build(config).state_dict()):
            with open_dict(job.cfg):
                job.cfg.model = config
            return net.state_dict()
    problem = mismatch(net.state_dict(), build(own).state_dict())
    raise UserError(
        f"the weights of {job.source.name if job.source else job.stage.init} do not fit its "
        f"model: {problem}"
    )


def _training_batches(job: Job) -> Iterator[Batch]:
    """What the stage trains on; opened when it is asked for, since few transforms look at any."""
    data = build(job.cfg.data)
    data.prepare_data()
    data.setup("fit")
    yield from batches(data)


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
    return network_state(checkpoint["current_model_state" if raw else "state_dict"])
