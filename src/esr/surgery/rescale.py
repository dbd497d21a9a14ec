"""Carry weights to the same network at another scale: all but the parts that depend on it."""

import torch
from torch import nn

from esr.build import Config, construct
from esr.errors import UserError


class Rescale:
    """The transform of a recipe's stage, see `esr.surgery.transform`.

    `into` configures the same class for another scale: `${model}` of the stage, with `_recursive_:
    false`, since it is built here.
    """

    def __init__(self, into: Config):
        self.into = into

    def __call__(
        self, net: nn.Module, config: Config, data: object = None
    ) -> tuple[nn.Module, Config]:
        return rescale(net, construct(self.into)), self.into


@torch.no_grad()
def rescale(net: nn.Module, into: nn.Module) -> nn.Module:
    """Return `into` with the weights of `net` wherever name and shape agree.

    What does not agree keeps its fresh weights; it may only be the upsampling at the end.

    Raises:
        UserError: they differ in more than what follows the features.
    """
    old, new = net.state_dict(), into.state_dict()
    taken = {name for name in new if name in old and old[name].shape == new[name].shape}
    fresh = (old.keys() | new.keys()) - taken
    body = sorted(name for name in fresh if name.partition(".")[0] in ("head", "blocks", "trunk"))
    if body or not taken:
        raise UserError(
            f"cannot carry {type(net).__name__} over to {type(into).__name__}: they differ in "
            f"{', '.join(body[:3]) or 'everything'}, not only in the upsampling"
        )
    into.load_state_dict({**new, **{name: old[name] for name in taken}})
    return into
