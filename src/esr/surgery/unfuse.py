"""The way back: plain deploy weights as the starting point of a training form."""

from collections.abc import Mapping

import torch
from torch import nn

from esr.errors import UserError
from esr.models.reparam.block import Block
from esr.models.reparam.normed_hfab import NormedHFAB
from esr.surgery.fuse import fuse


def load_plain(net: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the weights of `fuse(net)` into `net`: it computes the same afterwards, in eval mode.

    A block's main branch takes the plain kernel, its other branches start at zero contribution;
    everything else is loaded as it is.

    Args:
        net: a network with or without re-parameterised blocks; changed in place.
        weights: a state dict of its deploy form.

    Raises:
        UserError: the weights are of another network; the message names some of the keys.
    """
    blocks = {name: module for name, module in net.named_modules() if isinstance(module, Block)}
    expected = fuse(net).state_dict().keys()
    missing, unknown = expected - weights.keys(), weights.keys() - expected
    if missing or unknown:
        raise UserError(
            f"not the deploy weights of {type(net).__name__}: missing {_some(missing)}, "
            f"not in it {_some(unknown)}"
        )
    for module in net.modules():
        if isinstance(module, NormedHFAB):
            module.neutralise()
    rest = {}
    for key, value in weights.items():
        owner, _, leaf = key.rpartition(".")
        if owner not in blocks:
            rest[key] = value
        elif leaf == "weight":
            try:
                blocks[owner].load_plain(value, weights.get(f"{owner}.bias"))
            except UserError as error:
                raise UserError(f"cannot load '{owner}': {error}") from error
    net.load_state_dict(rest, strict=False)


def _some(keys: set[str]) -> str:
    shown = ", ".join(sorted(keys)[:3]) or "none"
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"
