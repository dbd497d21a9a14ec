"""The door to Hydra: where the configuration lies, how it is composed, and how it becomes objects.

Beside it only the commands, `recipes`, `sweeps` and the plugins know Hydra. Each folder of
`experiments/` is a collection and thereby a configuration group (`hydra_plugins.esr_collections`).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from esr.build import EXTRAS, Config, construct
from esr.errors import UserError, near

COLLECTION = "collection"
"""Stem of the file that says what is true of a whole collection; it is no recipe."""

TARGET = re.compile(r"^\s*(?:- )?_target_: *['\"]?([\w.]+)", re.MULTILINE)

PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    """The checkout's folder of that name, or the copy which the wheel carries."""
    checkout = PACKAGE.parents[1] / name
    return checkout if (PACKAGE.parents[1] / "pyproject.toml").is_file() else PACKAGE / name


def conf_dir() -> Path:
    """Folder of the configuration groups (`model`, `data`, `loss`, ...)."""
    return _folder("conf")


def experiments_dir() -> Path:
    """Folder of the recipes, one group a subfolder (`ntire2022`, ...)."""
    return _folder("experiments")


def collections() -> list[str]:
    """The folders of `experiments/` that hold recipes or entries, sorted."""
    root = experiments_dir()
    folders = sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []
    return [folder.name for folder in folders if options(folder.name)]


def offered(group: str) -> list[str]:
    """The `options` of a group that the running command offers: evaluate.py, published networks."""
    names, folder = options(group), experiments_dir() / group
    if command != "evaluate" or not folder.is_dir():
        return names
    return [name for name in names if "\nentry:" in (folder / f"{name}.yaml").read_text()]


def begin(name: str) -> None:
    """Say which command Hydra is started for: `train` or `evaluate`."""
    global command
    command = name


command = "train"
"""What a choice in a collection stands for: a recipe (train) or a published network (evaluate)."""


def _ratio(fraction: float, total: int) -> int:
    """`${share:0.5,${trainer.max_steps}}`: a step count as a share of another, at least 1."""
    return max(1, round(float(fraction) * int(total)))


def _groups(choices: DictConfig) -> str:
    """`${groups:${hydra.runtime.choices}}`: what this command lets one choose, a line a group."""
    names = (str(key).partition("@")[0] for key in choices)
    shown = {name: offered(name) for name in names if not name.startswith("hydra/")}
    return "\n".join(f"{name}: {', '.join(shown[name])}" for name in sorted(shown) if shown[name])


OmegaConf.register_new_resolver("share", _ratio, replace=True)
OmegaConf.register_new_resolver("groups", _groups, replace=True)


def compose(name: str = "train", overrides: Sequence[str] = ()) -> DictConfig:
    """Compose `conf/<name>.yaml` with overrides as they are typed on the command line."""
    if GlobalHydra.instance().is_initialized():
        return hydra.compose(name, list(overrides))
    begin(name)
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose(name, list(overrides))


def build(config: Any) -> Any:
    """Make the object that `_target_` names, with everything nested in it.

    Raises:
        UserError: see `esr.build.construct`; the message begins with the key ("loss.l1").
    """
    place = config._get_full_key("") if isinstance(config, DictConfig | ListConfig) else ""
    return construct(plain(config), place)


def plain(config: Any) -> Any:
    """The configuration as resolved dicts, lists and scalars."""
    if isinstance(config, DictConfig | ListConfig):
        return OmegaConf.to_container(config, resolve=True)
    return config


def options(group: str) -> list[str]:
    """Names that can be chosen in a group of conf/ or experiments/, sorted."""
    folders = (conf_dir() / group, experiments_dir() / group)
    return sorted({p.stem for folder in folders for p in folder.glob("*.yaml")} - {COLLECTION})


def model_config(name: str, scale: int = 4, **values: Any) -> Config:
    """What `conf/model/<name>.yaml` says for a scale, with values changed.

    Raises:
        UserError: there is no such model.
    """
    path = conf_dir() / "model" / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"model={name} does not exist{_suggest(name, options('model'), 'model=')}")
    cfg = OmegaConf.create({"scale": scale, "model": OmegaConf.load(path)})
    return {**plain(cfg.model), **values}


def own_networks() -> set[str]:
    """Every class that conf/model and conf/conv name: what the user keeps there is trusted."""
    paths = (path for group in ("model", "conv") for path in (conf_dir() / group).glob("*.yaml"))
    return {name for path in paths for name in TARGET.findall(path.read_text())}


def explain(error: BaseException) -> str:
    """What Hydra found wrong with a command line, what exists, and what to type instead."""
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
    return f"{group}={name} does not exist{_suggest(name, offered(group), f'{group}=')}"


def _unknown_key(key: str, cause: OmegaConfBaseException) -> str:
    parent = getattr(cause, "parent_node", None)
    prefix, _, last = key.rpartition(".")
    known = sorted(map(str, parent)) if isinstance(parent, DictConfig) else None
    if known is None or last in known:
        return f"cannot set {key}: {str(cause).splitlines()[0]}"
    return f"unknown key {key}{_suggest(last, known, f'{prefix}.' if prefix else '')}"


def _suggest(name: str, known: list[str], prefix: str) -> str:
    return f"{near(name, known, prefix) or '.'} Known: {', '.join(known)}"
