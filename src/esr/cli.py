"""The two commands. Imports stay inside the tasks, so that `--help` does not wait for torch."""

import difflib
import os
import re
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from esr.config import conf_dir, options
from esr.errors import UserError

EXTRAS = {"optuna": "sweep", "submitit": "cluster", "joblib": "cluster"}
"""Which extra brings a package that only the configuration names."""


def train() -> None:
    """`python train.py ...`: train a network, or run a recipe stage by stage."""
    _command(_train, "train")


def evaluate() -> None:
    """`python evaluate.py ...`: score a checkpoint, an entry or a whole challenge."""
    _command(_evaluate, "evaluate")


def _train(cfg: DictConfig) -> Any:
    from esr import stages

    return stages.run(cfg)


def _evaluate(cfg: DictConfig) -> Any:
    from esr import scoring

    return scoring.run(cfg)


def _command(task: Callable[[DictConfig], Any], name: str) -> None:
    """Run `task` under Hydra; whatever the user did wrong is told without a traceback."""
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the message below is ours

    def guarded(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except UserError as error:
            if wants_traceback or HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # a sweep has to learn of it
            raise SystemExit(f"error: {error}") from None  # Hydra would print the overrides first

    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)
    try:
        main()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        raise SystemExit(f"error: {explain(error)}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None


def explain(error: BaseException) -> str:
    """What was found, what exists, and what to type instead."""
    absent = re.search(r"No module named '(\w+)", f"{error} {error.__cause__}")
    if absent and absent[1] in EXTRAS:
        return f"{absent[1]} is not installed: pip install 'esr[{EXTRAS[absent[1]]}]'"
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    cause = error.__cause__ if isinstance(error, CompactHydraException) else error
    key = re.search(r"Could not override '([^']+)'", str(error))
    if key and isinstance(cause, OmegaConfBaseException):
        return _unknown_key(key[1], cause)
    detail = f": {cause}" if cause is not None and cause is not error else ""
    return f"{error}{detail}".strip()


def _unknown_option(error: MissingConfigException) -> str:
    found = re.search(r"Could not (?:find|load) '?([\w/.-]+)/([\w.*-]+)'?", str(error))
    if not found:
        return str(error)
    group, name = found[1].removeprefix("conf/"), found[2]
    return f"{group}={name} does not exist{_suggest(name, options(group), f'{group}=')}"


def _unknown_key(key: str, cause: OmegaConfBaseException) -> str:
    parent = getattr(cause, "parent_node", None)
    if not isinstance(parent, DictConfig):
        return f"cannot set {key}: {str(cause).splitlines()[0]}"
    prefix, _, last = key.rpartition(".")
    known = sorted(str(name) for name in parent)
    if last in known:
        return f"cannot set {key}: {str(cause).splitlines()[0]}"
    return f"unknown key {key}{_suggest(last, known, f'{prefix}.' if prefix else '')}"


def _suggest(name: str, known: list[str], prefix: str) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {prefix}{close[0]}?" if close else "."
    return f"{hint} Known: {', '.join(known)}"
