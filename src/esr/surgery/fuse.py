"""Merge a network's re-parameterised blocks: the training form in, its plain twin out.

A block takes part by having a method `fuse()` that returns the module to deploy, and for the way
back a method `load_plain(weights)` that takes the deploy module's state dict. They are looked up on
the class, because many networks here own a child that is *called* `fuse`.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from esr.build import Config, target
from esr.errors import UserError
from esr.models.state import mismatch


def fusable(net: nn.Module) -> list[str]:
    """Paths of the modules that `fuse` would replace ('' is the root); none for a plain net."""
    return [path for path, module in net.named_modules() if _has(module, "fuse")]


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


def deploy_config(model: Mapping[str, Any]) -> Config:
    """Return the configuration that builds `fuse(net)`, given the one that built `net`.

    Arguments which only shape the training form are dropped, so that their defaults apply: `conv`,
    or what the class lists in its attribute `training_arguments`.
    """
    dropped = getattr(target(str(model["_target_"])), "training_arguments", ("conv",))
    return {key: value for key, value in model.items() if key not in dropped}


class Fuse:
    """The transform `fuse` of a recipe's stage, see `esr.surgery.transform`."""

    def __call__(
        self, net: nn.Module, config: Config, data: object = None
    ) -> tuple[nn.Module, Config]:
        return fuse(net), deploy_config(config)


def _has(module: nn.Module, method: str) -> bool:
    return callable(getattr(type(module), method, None))


def _fuse(module: nn.Module, path: str, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in done:  # one module in two places stays one module
        return done[module]
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = _fuse(child, f"{path}.{name}".lstrip("."), done)
    twin = module
    if _has(module, "fuse"):
        try:
            twin = getattr(module, "fuse")()  # noqa: B009
        except UserError as error:
            where = f"'{path}'" if path else "the network itself"
            raise UserError(f"cannot fuse {where} ({type(module).__name__}): {error}") from error
        twin.train(module.training)
    done[module] = twin
    return twin


def load_plain(net: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """The way back: load the weights of `fuse(net)` into `net`, which then computes the same.

    A block's main branch takes the plain kernel, its other branches start at zero contribution;
    everything else is loaded as it is. Equal in eval mode.

    Raises:
        UserError: the weights are of another network; names and shapes that differ are listed.
    """
    if problem := mismatch(weights, fuse(net).state_dict()):
        raise UserError(f"these are no deploy weights of {type(net).__name__}: {problem}")
    net.load_state_dict(weights, strict=False)  # all but the blocks, whose names differ
    for path, module in net.named_modules():
        if not _has(module, "load_plain"):
            continue
        prefix = f"{path}." if path else ""
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        try:
            getattr(module, "load_plain")(own)  # noqa: B009
        except UserError as error:
            raise UserError(f"cannot load '{path}': {error}") from error
