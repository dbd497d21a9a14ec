"""The way back: plain deploy weights as the starting point of a training form."""

from collections.abc import Mapping

import torch
from torch import nn

from esr.errors import UserError
from esr.models.reparam.block import Block
from esr.models.reparam.normed_hfab import NormedHFAB
from esr.surgery.fuse import fuse
from esr.weights import mismatch


def load_plain(net: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the weights of `fuse(net)` into `net`: it computes the same afterwards, in eval mode.

    A block's main branch takes the plain kernel, its other branches start at zero contribution;
    everything else is loaded as it is.

    Args:
        net: a network with or without re-parameterised blocks; changed in place.
        weights: a state dict of its deploy form.

    Raises:
        UserError: the weights are of another network; names and shapes that differ are listed.
    """
    problem = mismatch(weights, fuse(net).state_dict())
    if problem:
        raise UserError(f"these are no deploy weights of {type(net).__name__}: {problem}")
    blocks = {name: module for name, module in net.named_modules() if isinstance(module, Block)}
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
