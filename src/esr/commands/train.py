"""What `python train.py` does: one run, a run that goes on, or a recipe stage by stage."""

import json
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from rich.console import Console

from esr.config import compose
from esr.errors import UserError
from esr.evaluation import objective
from esr.recipes import run as recipes
from esr.sweeps import trial
from esr.training import folder as runs
from esr.training.callbacks.checkpoint import LAST
from esr.training.logger import forget_after
from esr.training.run import fit

AUTO = "auto"
"""`resume=auto`: begin or go on, whatever is due."""

console = Console()

COLLECTIONS = ("ntire2022", "papers", "pruning")
"""Groups of recipes, which name the run."""


def run(cfg: DictConfig, typed: Sequence[str] | None = None) -> float | tuple[float, ...]:
    """Train as configured and return the objective(s) that a sweep optimises.

    Args:
        cfg: a composed `train` configuration.
        typed: the overrides that made it; by default those of the command line.
    """
    typed = _typed() if typed is None else list(typed)
    with open_dict(cfg):
        cfg.pop("sweep", None)  # how the trials are chosen is no matter of any of them
    folder = trial.folder()
    if folder is None:
        metrics = _train(cfg, typed)
    else:
        typed = [*_chosen(typed), *typed]
        metrics = trial.run(folder, typed, cfg.objective, lambda: _train(cfg, typed, folder))
    return objective.values(metrics, cfg.objective)


def _train(cfg: DictConfig, typed: list[str], folder: Path | None = None) -> dict[str, float]:
    """A recipe, a run that goes on, or a new run; `folder` is that of a sweep's job."""
    auto = folder is not None or cfg.resume == AUTO
    if cfg.resume and cfg.resume != AUTO and recipes.is_recipe(Path(cfg.resume)):
        cfg, typed = recipes.reopen(Path(cfg.resume), typed)
    if cfg.budget.steps and not cfg.stages:  # a single run is a recipe of one stage
        typed = [*typed, "+stages.train={}"]
        cfg = compose("train", typed)
    cfg.name = cfg.name or _name(cfg)
    if folder is not None:
        cfg.name = f"{cfg.name}_{folder.name}"  # trials are told apart where many are shown
    if cfg.stages:
        return recipes.run(cfg, typed, folder)
    if cfg.stage:
        raise UserError(
            f"stage={cfg.stage} is for recipes, and this run has no stages. Choose one with "
            "ntire2022=NAME or papers=NAME"
        )
    if auto:
        return _go_on(cfg, typed, folder)
    if cfg.resume:
        return _resume(Path(cfg.resume), typed)
    folder = runs.claim(cfg)
    if not runs.follows():
        runs.write_config(cfg, folder, typed)
    return fit(cfg, folder)


def _resume(folder: Path, typed: Sequence[str]) -> dict[str, float]:
    cfg = runs.read_config(folder, [o for o in typed if not o.startswith("resume=")])
    cfg.run = str(folder)
    return fit(cfg, folder, resume=True, callbacks=trial.callbacks(cfg.objective))


def _go_on(cfg: DictConfig, typed: Sequence[str], folder: Path | None) -> dict[str, float]:
    """Begin a run in its folder, go on with it, or find that it is finished: whatever is due."""
    if folder is None and not cfg.run:
        raise UserError("resume=auto goes on with a folder that is named: type run=FOLDER, too")
    folder = folder or Path(cfg.run)
    if (folder / runs.RESULT).is_file():
        console.print(f"{folder} is finished already", highlight=False, soft_wrap=True)
        return json.loads((folder / runs.RESULT).read_text())["metrics"]
    if (folder / "checkpoints" / LAST).is_file():
        return _resume(folder, [])
    folder = runs.claim(cfg, folder, again=True)
    if not runs.follows():
        forget_after(folder, 0)  # what was logged before its first checkpoint
        runs.write_config(cfg, folder, typed)
    return fit(cfg, folder, callbacks=trial.callbacks(cfg.objective))


def _typed() -> list[str]:
    """The overrides on the command line, without a storage's URL, which may hold a password."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [override for override in typed if "sweep.storage" not in override]


def _chosen(typed: Sequence[str]) -> list[str]:
    """The recipe that a preset of sweeps chose and nobody typed: a trial is repeated with it."""
    choices = HydraConfig.get().runtime.choices
    named = {override.partition("=")[0] for override in typed}
    return [
        f"{group}={choices[group]}"
        for group in COLLECTIONS
        if choices[group] and group not in named
    ]


def _name(cfg: DictConfig) -> str:
    """The challenge entry, else the model that was chosen."""
    if HydraConfig.initialized():
        choices = HydraConfig.get().runtime.choices
        return next(filter(None, map(choices.get, COLLECTIONS)), choices["model"])
    return str(cfg.model["_target_"]).rpartition(".")[2].lower()
