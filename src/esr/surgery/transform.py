"""What a stage of a recipe may do to the network it starts from: one protocol for all of it.

    transform: [fuse]
    transform: [{_target_: esr.surgery.prune.Prune, widths: {width: 46}}]

A transform of your own is a class, made from the other keys, or a function, which takes them as
keywords.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from esr.build import Config, construct, target
from esr.errors import UserError
from esr.surgery.calibration import Data

NAMED = {
    "fuse": {"_target_": "esr.surgery.fuse.Fuse"},
    "esr.surgery.fuse.fuse": {"_target_": "esr.surgery.fuse.Fuse"},
    "esr.surgery.rescale.rescale": {
        "_target_": "esr.surgery.rescale.Rescale",
        "_recursive_": False,
    },
}
"""A short name, and what recipes of version 0.1.0 call the same."""


class Transform(Protocol):
    """Replaces a network by another one."""

    def __call__(
        self, net: nn.Module, config: Config, data: Data | None
    ) -> tuple[nn.Module, Config]:
        """The new network and the configuration that builds it.

        `net` is left as it is; `config` is what it was built from. Nothing of `data` is read before
        it is iterated. None is a rehearsal: everything is checked and built as it will be, but
        nothing is measured.
        """
        ...


def read_transform(entry: Any) -> Transform:
    """The transform that an entry of a stage's list means.

    Raises:
        UserError: it means none.
    """
    wanted = dict(entry) if isinstance(entry, Mapping) else {"_target_": entry}
    name = str(wanted.get("_target_"))
    if name not in NAMED and "." not in name:
        raise UserError(f"transform: a name such as fuse, or a mapping with _target_; got {entry}")
    wanted |= NAMED.get(name, {})
    is_function = not isinstance(target(wanted["_target_"]), type)
    transform = construct({**wanted, "_partial_": is_function})
    try:
        inspect.signature(transform).bind(None, None, None)
    except TypeError:
        raise UserError(
            f"transform {name}: it is called with the network, its configuration and the data, and "
            "returns a network and its configuration"
        ) from None
    return transform
