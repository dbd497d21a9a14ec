"""Which published network a file of weights is of, when the file does not say.

By its checksum; else by the names and shapes of its tensors, translated by each entry's table.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from torch import nn

from esr.config import options
from esr.errors import UserError
from esr.models.state import mismatch, size
from esr.zoo import catalogue
from esr.zoo.files import Tensors, Weights, spellings


def namings(tensors: Tensors, published: bool) -> Iterator[Tensors]:
    """The tensors under every name that they may be meant by: as they are, then as published."""
    variants = list(spellings(tensors))
    yield from variants
    if published:
        for entry in catalogue.published():
            yield from _translated(variants, entry)


def _translated(variants: Iterable[Tensors], entry: catalogue.Entry) -> Iterator[Tensors]:
    for tensors in variants:
        with suppress(UserError):  # the table is not reversible on these names: another network's
            yield catalogue.to_ours(entry, tensors)


def recognise(found: Weights) -> tuple[nn.Module, str]:
    """The published network that the tensors are of, and how it was recognised.

    Raises:
        UserError: none, or several that differ in what their shapes do not show.
    """
    candidates = catalogue.published()
    for entry in candidates:
        if entry.sha256 == found.sha256:
            return catalogue.load(entry.name, weights=found.path), f"{entry.name}, by its checksum"
    fitting: dict[str, nn.Module] = {}
    values = sum(tensor.numel() for tensor in found.tensors.values())
    variants = list(spellings(found.tensors))
    for entry in candidates:
        if not _plausible(entry, values):
            continue
        net = catalogue.load(entry.name, weights=None)
        wanted = net.state_dict()
        for tensors in (*variants, *_translated(variants, entry)):
            if not mismatch(tensors, wanted):
                net.load_state_dict(tensors)
                fitting[entry.name] = net
                break
    if len(fitting) == 1:
        name, net = fitting.popitem()
        return net, f"{name}, by the names and shapes of its tensors"
    some = ", ".join(f"{k} {size(v)}" for k, v in list(found.tensors.items())[:4])
    does = (
        f"fits {', '.join(fitting)}, which differ in what shapes do not show"
        if fitting
        else "does not say of which network it is, nor is it a published one"
    )
    raise UserError(
        f"{found.path} {does} ({len(found.tensors)} tensors: {some}, ...). "
        f"Type model=NAME. Known: {', '.join(options('model'))}"
    )


def _plausible(entry: catalogue.Entry, values: int) -> bool:
    """Whether a file of so many numbers can be of the entry: building all of them takes long."""
    try:
        published = float((entry.published or {})["params_m"]) * 1e6
    except (KeyError, ValueError):
        return True
    return abs(values - published) < 0.03 * published
