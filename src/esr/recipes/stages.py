"""Recipes: the `stages:` mapping, read and checked, each stage composed like a run of its own.

A stage is ordinary overrides over the same command. What is typed comes after them and wins.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from esr.build import target
from esr.config import compose, explain, plain
from esr.errors import UserError, near

WEIGHTS = ("best", "last", "ema", "raw")
"""Of the earlier stage: the best by validation; the last (averaged where there is an average); ema,
the same but refused without one; raw, never averaged."""

KEYS = ("init", "overrides", "transform", "weights", "repeat")
RESERVED = ("stage", "stages", "run", "resume", "init", "name")
"""Keys that belong to the recipe as a whole and cannot be set by a stage."""


@dataclass(frozen=True)
class Stage:
    """One stage, `repeat` already written out."""

    name: str  # unique; repetitions are numbered, `warm_start_2`
    key: str  # in `stages:`
    init: str | None = None  # weights of a stage, an entry, a run folder or a file; None: none
    overrides: tuple[str, ...] = ()  # as typed on the command line
    weights: str = "best"  # one of WEIGHTS


def parse(stages: Mapping[str, Any]) -> list[Stage]:
    """The stages in order.

    Raises:
        UserError: an unknown key or value, or an `init` that points forward or at itself.
    """
    found: list[Stage] = []
    last: dict[str, str] = {}  # key -> name of its last repetition
    for key, given in stages.items():
        entry = dict(given or {})
        unknown = [name for name in entry if name not in KEYS]
        if unknown:
            raise UserError(f"stage {key}: unknown key {unknown[0]}. Known: {', '.join(KEYS)}")
        init = _origin(str(key), entry.get("init"), last, stages)
        if entry.get("transform") and init is None:
            raise UserError(f"stage {key}: there is nothing to transform: type init, too")
        weights, repeat = entry.get("weights") or "best", entry.get("repeat", 1)
        if weights not in WEIGHTS:
            raise UserError(f"stage {key}: weights is one of {', '.join(WEIGHTS)}, got {weights}")
        if not isinstance(repeat, int) or repeat < 1:
            raise UserError(f"stage {key}: repeat is a number of times, at least 1, got {repeat}")
        overrides = tuple(entry.get("overrides") or ())
        for override in overrides:
            if _key(override) in RESERVED:
                raise UserError(f"stage {key}: a stage cannot set {_key(override)} ({override})")
        for number in range(1, repeat + 1):
            name = str(key) if repeat == 1 else f"{key}_{number}"
            found.append(Stage(name, str(key), init, overrides, weights))
            init = last[str(key)] = name
    return found


def _origin(
    key: str, init: str | None, last: Mapping[str, str], stages: Mapping[str, Any]
) -> str | None:
    """The name of the stage, or the path, that a stage starts from."""
    if init is None or init in last:
        return last[init] if init else None
    if init == key:
        raise UserError(f"stage {key} starts from itself (init: {init})")
    if init in stages:
        raise UserError(
            f"stage {key} starts from {init}, which comes later. Before it: "
            f"{', '.join(last) or 'nothing'}"
        )
    if "/" in init or Path(init).exists():
        return init
    raise UserError(
        f"stage {key} starts from {init}, which is no stage, entry or file"
        f"{near(init, last) or '.'} Stages before it: {', '.join(last) or 'none'}"
    )


def select(stages: Sequence[Stage], wanted: Any) -> list[Stage]:
    """The stages that `stage=...` names: one, a list, or all of them.

    Raises:
        UserError: there is no such stage.
    """
    if not wanted:
        return list(stages)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if not any(name in (stage.name, stage.key) for stage in stages):
            known = [stage.name for stage in stages]
            raise UserError(
                f"stage={name} does not exist{near(name, known) or '.'} Stages: {', '.join(known)}"
            )
    return [stage for stage in stages if stage.name in names or stage.key in names]


def configure(stages: Sequence[Stage], typed: Sequence[str], budget: Any) -> list[DictConfig]:
    """The configuration of every stage: recipe, then stage, then budget, then what was typed.

    Raises:
        UserError: an override of a stage does not fit; the stage is named.
    """
    typed = [override for override in typed if _key(override) not in ("stage", "run", "resume")]
    configs = [_compose(stage, typed, budget) for stage in stages]
    if budget and budget.steps:
        _scale(configs, budget, {_key(override) for override in typed})
    return configs


def _compose(stage: Stage, typed: Sequence[str], budget: Any) -> DictConfig:
    later = [*(budget.overrides if budget else ()), *typed]
    others = [override for override in later if _key(override) != "trainer.max_steps"]
    cfg = _composed(stage, others)
    # What never trains is not shortened or lengthened from outside.
    return cfg if cfg.trainer.max_steps == 0 or others == later else _composed(stage, later)


def _composed(stage: Stage, later: Sequence[str]) -> DictConfig:
    taken = {_key(override) for override in later}
    earlier = [override for override in stage.overrides if _key(override) not in taken]
    try:
        return compose("train", [*earlier, *later])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"stage {stage.name}: {explain(error)}") from error


def _key(override: str) -> str:
    return override.partition("=")[0].strip().lstrip("+~")


def _scale(configs: Sequence[DictConfig], budget: Any, typed: set[str]) -> None:
    """Shorten the stages in proportion, and shrink patches and batches, unless typed."""
    for key in ("steps", "patch_size", "batch_size"):
        if budget[key] is not None and (not isinstance(budget[key], int) or budget[key] < 1):
            raise UserError(f"budget.{key}={budget[key]}: expected a whole number, at least 1")
    trained = [cfg for cfg in configs if cfg.trainer.max_steps > 0]
    if not trained:
        return
    steps = min(1.0, budget.steps / sum(cfg.trainer.max_steps for cfg in trained))
    patch = _share(budget.patch_size, largest(trained[0].data.patch_size))
    batch = _share(budget.batch_size, max(largest(cfg.data.batch_size) for cfg in trained))
    for cfg in trained:
        with open_dict(cfg):
            per_epoch = cfg.trainer.max_steps
            if "trainer.max_steps" not in typed:
                short = max(2, round(cfg.trainer.max_steps * steps))
                per_epoch = max(1, short // 4)  # about four validations, the last at the end
                cfg.trainer.max_steps = short // per_epoch * per_epoch
                if cfg.schedule is not None:
                    _scale_counts(cfg.schedule, steps)
            for key, factor, unit in (("patch_size", patch, cfg.scale), ("batch_size", batch, 1)):
                if f"data.{key}" not in typed:
                    cfg.data[key] = _resize(cfg.data[key], factor, unit, steps)
            if "data.samples_per_epoch" not in typed:
                cfg.data.samples_per_epoch = per_epoch * largest(cfg.data.batch_size)


def _share(wanted: int | None, given: int) -> float:
    return 1.0 if wanted is None else min(1.0, wanted / given)


def _scale_counts(schedule: DictConfig, factor: float) -> None:
    """Scale step counts that are written as numbers; those derived from max_steps follow it.

    A whole number is a step count where a schedule demands it (`T_max`, `milestones`); what has a
    default (`T_mult`) is something else.
    """
    written = OmegaConf.to_container(schedule, resolve=False)
    assert isinstance(written, dict)
    parameters = inspect.signature(target(schedule["_target_"])).parameters
    for key in (name for name, p in parameters.items() if p.default is p.empty):
        value = written.get(key)
        if isinstance(value, dict):  # the schedule after a warm-up
            _scale_counts(schedule[key], factor)
        elif isinstance(value, int):
            schedule[key] = max(1, round(value * factor))
        elif isinstance(value, list) and all(isinstance(item, int) for item in value):
            schedule[key] = [max(1, round(item * factor)) for item in value]


def largest(size: Any) -> int:
    """The largest of sizes that may depend on the step."""
    return max(size.values()) if isinstance(size, Mapping) else size


def smallest(size: Any) -> int:
    """The smallest of sizes that may depend on the step."""
    return min(size.values()) if isinstance(size, Mapping) else size


def _resize(size: Any, factor: float, unit: int, steps: float) -> Any:
    def small(value: int) -> int:
        return max(1, round(value * factor / unit)) * unit

    if isinstance(size, Mapping):
        return {round(int(at) * steps): small(value) for at, value in plain(size).items()}
    return small(size)
