"""What `python train.py` does: one run, a run that goes on, or a recipe stage by stage."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from esr.config import collections, compose
from esr.console import say
from esr.errors import UserError
from esr.evaluation import objective
from esr.recipes import run as recipes
from esr.training.callbacks.checkpoint import LAST
from esr.training.folder import RESULT, claim, read_config, read_result, write_config
from esr.training.logger import forget_after
from esr.training.processes import follows
from esr.training.run import fit

AUTO = "auto"
"""`resume=auto`: begin or go on, whatever is due."""


def run(cfg: DictConfig, typed: Sequence[str] | None = None) -> float | tuple[float, ...]:
    """Train as configured and return the objective(s) that a sweep optimises.

    Args:
        cfg: a composed `train` configuration.
        typed: the overrides that made it; by default those of the command line.
    """
    typed = _typed() if typed is None else list(typed)
    with open_dict(cfg):
        cfg.pop("sweep", None)  # how the trials are chosen is no matter of any of them
    if (job := _job()) is None:
        metrics = _train(cfg, typed)
    else:
        from esr.sweeps import trial

        typed = [*_chosen(typed), *typed]
        metrics = trial.run(job, typed, cfg.objective, lambda: _train(cfg, typed))
    return objective.values(metrics, cfg.objective)


def _train(cfg: DictConfig, typed: list[str]) -> dict[str, float]:
    """A recipe, a run that goes on, or a new run."""
    cfg, typed = _asked(cfg, typed)
    job = _job()
    if cfg.stages:
        return recipes.run(cfg, typed, job, alone=job is None)
    if cfg.stage:
        raise UserError(
            f"stage={cfg.stage} is for recipes, and this run has no stages. Choose one with "
            f"{', '.join(f'{name}=NAME' for name in collections())}"
        )
    if job or cfg.resume == AUTO:
        return _go_on(cfg, typed)
    if cfg.resume:
        return _resume(Path(cfg.resume), typed)
    return _begin(cfg, typed)


def _asked(cfg: DictConfig, typed: list[str]) -> tuple[DictConfig, list[str]]:
    """What is to be done and by what name: a recipe may be meant without being typed."""
    if cfg.resume and cfg.resume != AUTO and recipes.is_recipe(Path(cfg.resume)):
        cfg, typed = recipes.reopen(Path(cfg.resume), typed)
    if cfg.budget.steps and not cfg.stages:  # a single run is a recipe of one stage
        typed = [*typed, "+stages.train={}"]
        cfg = compose("train", typed)
    cfg.name = cfg.name or _name(cfg)
    if job := _job():
        cfg.name = f"{cfg.name}_{job.name}"  # trials are told apart where many are shown
    return cfg, typed


def _go_on(cfg: DictConfig, typed: Sequence[str]) -> dict[str, float]:
    """Begin a run in its folder, go on with it, or find that it is finished: whatever is due."""
    folder = _job() or (Path(cfg.run) if cfg.run else None)
    if folder is None:
        raise UserError("resume=auto goes on with a folder that is named: type run=FOLDER, too")
    if (folder / RESULT).is_file():
        say(f"{folder} is finished already")
        return read_result(folder)
    if (folder / "checkpoints" / LAST).is_file():
        return _resume(folder, [])
    return _begin(cfg, typed, folder)


def _resume(folder: Path, typed: Sequence[str]) -> dict[str, float]:
    cfg = read_config(folder, [o for o in typed if not o.startswith("resume=")])
    cfg.run = str(folder)
    return _fit(cfg, folder, resume=True)


def _begin(cfg: DictConfig, typed: Sequence[str], folder: Path | None = None) -> dict[str, float]:
    """A new run; in `folder`, where one may lie that never came to a checkpoint, if it is given."""
    folder = claim(cfg, folder, again=folder is not None)
    if not follows():
        forget_after(folder, 0)  # what that one logged
        write_config(cfg, folder, typed)
    return _fit(cfg, folder)


def _fit(cfg: DictConfig, folder: Path, resume: bool = False) -> dict[str, float]:
    if (job := _job()) is None:
        return fit(cfg, folder, resume)
    from esr.sweeps import trial

    return fit(cfg, folder, resume, trial.callbacks(job, cfg.objective), alone=False)


def _job() -> Path | None:
    """The folder of this job of a sweep; None for what is run by itself."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(HydraConfig.get().runtime.output_dir)
    return None


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
        for group in collections()
        if choices[group] and group not in named
    ]


def _name(cfg: DictConfig) -> str:
    """The challenge entry, else the model that was chosen."""
    if HydraConfig.initialized():
        choices = HydraConfig.get().runtime.choices
        return next(filter(None, map(choices.get, collections())), choices["model"])
    return str(cfg.model["_target_"]).rpartition(".")[2].lower()
