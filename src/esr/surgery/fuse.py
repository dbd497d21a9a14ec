"""Merge a network's re-parameterised blocks: the training form in, its plain twin out.

A block takes part by having a method `fuse()` that returns the module to deploy. The method is
looked up on the class, because many networks here own a child that is *called* `fuse`.
"""

import copy
import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from esr.errors import UserError


def fusable(net: nn.Module) -> list[str]:
    """Paths of the modules that `fuse` would replace ('' is the root); none for a plain net."""
    return [path for path, module in net.named_modules() if _can_fuse(module)]


def fuse(net: nn.Module) -> nn.Module:
    """Return the deploy copy of `net`; `net` itself is left as it is.

    Children are merged before their parents, so a container's own `fuse()` meets plain
    convolutions and only has to fold what follows them (a BatchNorm, a residual). Device, dtype,
    training flag and requires_grad carry over. BatchNorm is merged with its running statistics:
    the twin equals the network in eval mode, whichever mode that was in.

    Raises:
        UserError: a block cannot be merged; the message names its path and the reason.
    """
    return _fuse(copy.deepcopy(net), "", {})


def deploy_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that builds `fuse(net)`, given the one that built `net`.

    Arguments which only shape the training form are dropped, so that their defaults apply: `conv`,
    or what the class lists in its attribute `training_arguments`.

    Args:
        model: constructor arguments with the class under `_target_`.
    """
    module, _, name = str(model["_target_"]).rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    dropped = getattr(cls, "training_arguments", ("conv",))
    return {key: value for key, value in model.items() if key not in dropped}


def _can_fuse(module: nn.Module) -> bool:
    return callable(getattr(type(module), "fuse", None))


def _fuse(module: nn.Module, path: str, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in done:  # one module in two places stays one module
        return done[module]
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = _fuse(child, f"{path}.{name}".lstrip("."), done)
    twin = module
    if _can_fuse(module):
        try:
            twin = getattr(module, "fuse")()  # noqa: B009
        except UserError as error:
            where = f"'{path}'" if path else "the network itself"
            raise UserError(f"cannot fuse {where} ({type(module).__name__}): {error}") from error
        twin.train(module.training)
    done[module] = twin
    return twin
