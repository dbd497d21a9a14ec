"""What Hydra found wrong with a command line, as one line that says what to type."""

import difflib
import re

from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from esr.config import options

EXTRAS = {"optuna": "sweep", "submitit": "cluster", "joblib": "cluster"}
"""Which extra brings a package that only the configuration names."""


def explain(error: BaseException) -> str:
    """What was found, what exists, and what to type instead."""
    absent = re.search(r"No module named '(\w+)'", f"{error} {error.__cause__}")
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
    plugin = name.partition("_")[0]
    if group == "hydra/launcher" and plugin in EXTRAS:
        return f"{group}={name} is not installed: pip install 'esr[{EXTRAS[plugin]}]'"
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
