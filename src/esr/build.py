"""From a configuration to objects: `_target_` names a class or function, the rest its arguments.

The one place where a name becomes code. It takes plain, resolved dicts and knows nothing of Hydra,
so it serves networks that are rebuilt below (surgery, files of weights) and commands above alike.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from esr.errors import UserError, near

Config = dict[str, Any]
"""Constructor arguments with the class under `_target_`, as in conf/."""

EXTRAS = {
    "joblib": "cluster",
    "matplotlib": "plot",
    "optuna": "sweep",
    "pytorch_optimizer": "optim",
    "submitit": "cluster",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "webdataset": "stream",
}
"""Which extra brings a package that only the configuration names."""

_NETWORK = re.compile(r"(esr\.models|esr\.evaluation\.reference|torch\.nn)(\.\w+)+")

_WORDS = ("_target_", "_partial_", "_recursive_")


def construct(config: Any, place: str = "") -> Any:
    """Build what a resolved configuration names, and everything nested in it.

    `_partial_: true` gives a function that waits for the remaining arguments; `_recursive_: false`
    hands nested configurations over as they are. `place` says where in the configuration this lies
    ("loss.l1"), for messages.

    Raises:
        UserError: there is no such class, or it does not know or refuses an argument.
    """
    if isinstance(config, list | tuple):
        return [construct(item, f"{place}[{i}]") for i, item in enumerate(config)]
    if not isinstance(config, Mapping):
        return config
    inner = {str(key): value for key, value in config.items() if key not in _WORDS}
    if config.get("_recursive_", True):
        inner = {k: construct(v, f"{place}.{k}".lstrip(".")) for k, v in inner.items()}
    if "_target_" not in config:
        return inner
    path = str(config["_target_"])
    made = target(path, place)
    waits = bool(config.get("_partial_"))
    _require_known(made, inner, path, waits, place)
    if waits:
        return partial(made, **inner)
    try:
        return made(**inner)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(f"{_at(place)}{_absent(str(error.name))}") from error
    except Exception as error:  # whatever a constructor, ours or a library's, has against a value
        raise UserError(f"{_at(place)}{path}: {' '.join(str(error).split())}") from error


def target(path: str, place: str = "") -> Callable[..., Any]:
    """The class or function that a dotted path names, where it lies today.

    Raises:
        UserError: there is none.
    """
    parts = today(path).split(".")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                continue  # `a.b` is no module: perhaps a class
            raise
        try:
            for part in parts[length:]:
                found = getattr(found, part)
        except AttributeError:
            hint = near(parts[-1], dir(found))
            raise UserError(f"{_at(place)}{name} has no {'.'.join(parts[length:])}{hint}") from None
        return found
    raise UserError(f"{_at(place)}{_absent(parts[0])} (_target_: {path})")


def targets(config: Any) -> Iterator[str]:
    """Every `_target_` of a configuration, at any depth."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield str(config["_target_"])
        for value in config.values():
            yield from targets(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from targets(value)


def network_class(path: str) -> type[Any] | None:
    """The network or layer of this package or of torch.nn that a path names; None if it is none.

    The path of a stranger's file: nothing else is imported to find out.
    """
    if not _NETWORK.fullmatch(today(path)):
        return None
    try:
        found = target(path)
    except (ImportError, UserError):
        return None
    from torch.nn import Module

    if not isinstance(found, type) or not issubclass(found, Module):
        return None
    return found if _NETWORK.fullmatch(f"{found.__module__}.{found.__name__}") else None


def _require_known(
    made: Callable[..., Any], values: Mapping[str, Any], path: str, part: bool, place: str
) -> None:
    """Refuse arguments that the callee does not have, and say which it has."""
    try:
        signature = inspect.signature(made)
    except ValueError:  # written in C, without a signature
        return
    try:
        signature.bind_partial(**values) if part else signature.bind(**values)
    except TypeError as error:
        known = [name for name in signature.parameters if name != "self"]
        unknown = [name for name in values if name not in known]
        problem = str(error)
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
            # Said first: what looks absent is often the same argument, written wrongly.
            problem = f"got an unexpected keyword argument '{unknown[0]}'{near(unknown[0], known)}"
        raise UserError(f"{_at(place)}{path}: {problem}. It takes: {', '.join(known)}") from None


def _absent(module: str) -> str:
    if (extra := EXTRAS.get(module.partition(".")[0])) is not None:
        return f"{module} is not installed: pip install 'esr[{extra}]'"
    return f"there is no module {module}: one of your own lies in this folder or is installed"


def _at(place: str) -> str:
    return f"{place}: " if place else ""


def today(path: str) -> str:
    """Where a class of this package lies now, given where a file of an older version says."""
    module, _, name = path.rpartition(".")
    return RENAMED.get(path) or (f"{MOVED[module]}.{name}" if module in MOVED else path)


def renewed(config: Any) -> Any:
    """A configuration, nested or flat ("model._target_"), with all classes where they lie now."""
    if isinstance(config, list | tuple):
        return [renewed(item) for item in config]
    if not isinstance(config, Mapping):
        return config
    return {
        key: today(value) if str(key).endswith("_target_") else renewed(value)
        for key, value in config.items()
    }


_NOW = {
    "evaluation.reference": "models.bicubic",
    "models.bsrn": "models.lkdn",
    "models.centred": "models.aaln models.mdan",
    "models.fmen": "models.reparam.normed_hfab",
    "models.gated": "models.alpan models.efdn models.esan models.lwfanet models.mdgn",
    "models.hybrid": "models.hnct models.mobilesr",
    "models.imdn": "models.imdeception models.imdn_paper models.imdtn",
    "models.lateral": "models.resdn models.rfesr models.rlcsr",
    "models.pan": "models.scet models.prrn",
    "models.parts.gates": "models.attention models.esa models.gates",
    "models.parts.layers": "models.bsconv models.layers models.mean_shift models.norms "
    "models.upsampling",
    "models.parts.transformers": "models.restormer models.windows",
    "models.plain": "models.ecbsr models.edsr models.plainsr models.sesr",
    "models.reparam.blocks": "models.reparam.acb models.reparam.collapsible models.reparam.conv3xc "
    "models.reparam.conv_lora models.reparam.dbb models.reparam.ecb models.reparam.edbb "
    "models.reparam.repconv models.reparam.reprfn models.reparam.repvgg models.reparam.residual "
    "models.reparam.rrrb models.reparam.three_branch",
    "models.parts.distillation": "models.rfdb",
    "models.rfdn": "models.afdn models.clrfdn models.plainrfdn models.repafdn",
    "models.rfdn_stages": "models.m_rfdn models.msdn models.rfdn_msrb",
    "models.rfdn_rewired": "models.arfdn models.bmdn models.faster_rfdn models.fden models.rfdnext",
    "surgery.importance": "surgery.pruning.importance",
    "sweeps.hopeless": "callbacks.hopeless",
    "training.callbacks.checkpoint": "callbacks.checkpoint",
    "training.callbacks.ema": "callbacks.ema",
    "training.callbacks.evaluation": "callbacks.evaluation",
    "training.callbacks.guard": "callbacks.guard",
    "training.callbacks.images": "callbacks.images",
    "training.callbacks.merge": "callbacks.reparam",
    "training.callbacks.progress": "callbacks.progress",
    "training.callbacks.pruning": "callbacks.growing_penalty callbacks.pruning "
    "callbacks.soft_pruning",
    "training.datamodule": "datamodule",
    "training.logger": "csvlog",
    "training.module": "training",
    "training.schedules": "schedules",
}
MOVED = {f"esr.{old}": f"esr.{new}" for new, olds in _NOW.items() for old in olds.split()}
"""Modules of version 0.1.0 and where they lie now: run folders and files of weights name them."""

RENAMED = {"esr.teachers.load": "esr.zoo.open.teacher"}
"""Single names of version 0.1.0, likewise."""
