"""What `python train.py` does: one run, a run that goes on, or a recipe stage by stage."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from esr import recipes, runs
from esr.errors import UserError
from esr.fit import fit

COLLECTIONS = ("ntire2022", "papers", "pruning")
"""Groups of recipes, which name the run."""


def run(cfg: DictConfig, typed: Sequence[str] | None = None) -> float | tuple[float, ...]:
    """Train as configured and return the objective(s) that a sweep optimises.

    Args:
        cfg: a composed `train` configuration.
        typed: the overrides that made it; by default those of the command line.
    """
    typed = _typed() if typed is None else list(typed)
    if cfg.resume and recipes.is_recipe(Path(cfg.resume)):
        cfg, typed = recipes.reopen(Path(cfg.resume), typed)
    if cfg.stages:
        cfg.name = cfg.name or _name(cfg)
        metrics = recipes.run(cfg, typed, _job_folder())
    elif cfg.stage or cfg.budget.steps:
        given = f"stage={cfg.stage}" if cfg.stage else "budget"
        raise UserError(
            f"{given} is for recipes, and this run has no stages. Choose one with ntire2022=NAME "
            "or papers=NAME; a single run is shortened by trainer.max_steps=N"
        )
    elif cfg.resume:
        folder = Path(cfg.resume)
        cfg = runs.read_config(folder, [o for o in typed if not o.startswith("resume=")])
        cfg.run = str(folder)
        metrics = fit(cfg, folder, resume=True)
    else:
        cfg.name = cfg.name or _name(cfg)
        folder = runs.claim(cfg, _job_folder())
        if not runs.follows():
            runs.write_config(cfg, folder, typed)
        metrics = fit(cfg, folder)
    return objective(metrics, cfg.objective)


def objective(metrics: dict[str, float], keys: str | list[str]) -> float | tuple[float, ...]:
    """The value of one key, or the values of several.

    Raises:
        UserError: a key was not measured.
    """
    names = [keys] if isinstance(keys, str) else list(keys)
    missing = [name for name in names if name not in metrics]
    if missing:
        raise UserError(f"objective={missing[0]} was not measured. Measured: {', '.join(metrics)}")
    values = tuple(metrics[name] for name in names)
    return values[0] if isinstance(keys, str) else values


def _typed() -> list[str]:
    """The overrides on the command line."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _name(cfg: DictConfig) -> str:
    """The challenge entry, else the model that was chosen."""
    if HydraConfig.initialized():
        choices = HydraConfig.get().runtime.choices
        return next(filter(None, map(choices.get, COLLECTIONS)), choices["model"])
    return str(cfg.model["_target_"]).rpartition(".")[2].lower()


def _job_folder() -> Path | None:
    """The folder that a sweep made for this job."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(HydraConfig.get().runtime.output_dir)
    return None
