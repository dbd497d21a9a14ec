"""State dicts held against each other: what keeps weights from being loaded, in words."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from esr.errors import UserError


def network_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's tensors of a training module's state dict, under their own names."""
    return {key.removeprefix("net."): v for key, v in state.items() if key.startswith("net.")}


def transfer(tensors: Mapping[str, torch.Tensor], net: nn.Module, source: str) -> None:
    """Copy `tensors` into `net` under the same names.

    Raises:
        UserError: names or shapes differ; all of them are listed, sensibly shortened.
    """
    problem = mismatch(tensors, net.state_dict())
    if problem:
        raise UserError(f"{source} does not fit {type(net).__name__}: {problem}")
    net.load_state_dict(dict(tensors))


def mismatch(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> str:
    """What keeps `found` from being loaded where `wanted` is expected; empty if nothing does."""
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    shapes = [
        f"{name} {size(found[name])} instead of {size(wanted[name])}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return "; ".join(
        f"{len(names)} {kind}: {shorten(names)}" for kind, names in kinds.items() if names
    )


def size(tensor: torch.Tensor) -> str:
    """A shape as 48x3x3x3."""
    return "x".join(map(str, tensor.shape)) or "scalar"


def shorten(names: Iterable[str], most: int = 6) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
