"""Which constructor arguments set widths, found by trying: nobody has to declare them.

An argument is a width if the class, given a smaller number, builds the same tensors with fewer
channels, if those channels are whole segments of the dependency graph, and if leaving them out is
the same as silencing them. The last is computed, not assumed: attention and normalisation over
channels fail it, and say so.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from esr.errors import UserError
from esr.surgery import rebuild
from esr.surgery.channels import Segment, trace
from esr.surgery.rebuild import Config, Inexpressible, Shapes

NOT_WIDTHS = ("scale", "data_range")
TOLERANCE = 1e-4
"""Largest difference, relative to the output, between a silenced and a smaller network."""


@dataclass(frozen=True)
class Width:
    """A number in the configuration that sets channels.

    Args:
        argument: of the constructor.
        index: its position where the argument is a list.
        value: at present.
        step: what it can be lowered by; attention with 8 heads takes multiples of 8, say.
        tied: other positions of the list that go down by the same amount.
    """

    argument: str
    index: int | None
    value: int
    step: int
    tied: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """As it is typed: `width` or `outputs[2]`."""
        return self.argument if self.index is None else f"{self.argument}[{self.index}]"


@dataclass(frozen=True)
class Structure:
    """A network, taken apart for pruning.

    Args:
        config: its configuration, the defaults of the widths written out.
        net: a plain float32 copy on the CPU.
        segments: its channels.
        shapes: of its tensors.
        widths: the numbers that can be lowered.
        fixed: part -> why no channel of it can go, a line each.
    """

    config: Config
    net: nn.Module
    segments: list[Segment]
    shapes: Shapes
    widths: tuple[Width, ...]
    fixed: dict[str, str]

    def counts(self, config: Config) -> list[int]:
        """Channels of each segment under another configuration.

        Raises:
            Inexpressible: see `rebuild.solve`.
        """
        return rebuild.solve(self.segments, self.shapes, rebuild.shapes(config))


def analyse(net: nn.Module, config: Config) -> Structure:
    """Take a plain network apart.

    Args:
        net: of any device and dtype; left alone.
        config: what it was built from.

    Raises:
        UserError: the configuration does not build the network.
    """
    rebuild.check(net, config)
    copy = rebuild.build(config, net.state_dict())
    segments = trace(copy)
    shapes = {name: tuple(tensor.shape) for name, tensor in copy.state_dict().items()}
    config = {**config, **_defaults(config)}
    structure = Structure(config, copy, segments, shapes, (), {})
    widths: list[Width] = []
    moved: set[int] = set()
    refused: dict[int, str] = {}
    for argument, index in _numbers(config):
        width = _probe(structure, argument, index, moved, refused)
        if width is not None:
            widths.append(width)
    fixed = dict(_fixed(structure, moved, refused))
    return Structure(config, copy, segments, shapes, tuple(widths), fixed)


def lower(config: Config, width: Width, by: int) -> Config:
    """The configuration with a width, and what is tied to it, lowered by `by`."""
    if width.index is None:
        return {**config, width.argument: config[width.argument] - by}
    values = list(config[width.argument])
    for position in (width.index, *width.tied):
        values[position] -= by
    return {**config, width.argument: values}


def replace(structure: Structure, wanted: Mapping[str, Any]) -> Config:
    """The configuration with widths as the user wrote them.

    Raises:
        UserError: a name is no argument, or a width is not smaller than now.
    """
    known = sorted({width.argument for width in structure.widths})
    for name, value in wanted.items():
        if name not in structure.config:
            raise UserError(
                f"{_class(structure)} has no width {name}; there are: {', '.join(known)}"
            )
        before = structure.config[name]
        pairs = zip(_list(before, value), _list(value, before), strict=False)
        if any(not isinstance(b, int) or b < 1 or b > a for a, b in pairs):
            raise UserError(f"{name}={value}: expected at least 1 and at most what it is, {before}")
    return {**structure.config, **wanted}


def _list(value: Any, like: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    return [value] * (len(like) if isinstance(like, list | tuple) else 1)


def _class(structure: Structure) -> str:
    return type(structure.net).__name__


def _defaults(config: Config) -> dict[str, Any]:
    """Arguments with numbers that the configuration leaves to the class."""
    parameters = inspect.signature(rebuild.target(config)).parameters.values()
    return {
        p.name: list(p.default) if isinstance(p.default, tuple) else p.default
        for p in parameters
        if p.name not in config and _is_numeric(p.default)
    }


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(type(item) is int for item in value)
    return type(value) is int


def _numbers(config: Config) -> Iterator[tuple[str, int | None]]:
    for argument, value in config.items():
        if argument in NOT_WIDTHS or not _is_numeric(value):
            continue
        if isinstance(value, list | tuple):
            yield from ((argument, index) for index in range(len(value)))
        else:
            yield argument, None


def _probe(
    structure: Structure,
    argument: str,
    index: int | None,
    moved: set[int],
    refused: dict[int, str],
) -> Width | None:
    """The width that an argument sets, if it sets one; what it moves or fails to is noted."""
    given = structure.config[argument]
    value = given if index is None else given[index]
    others = () if index is None else tuple(i for i in range(len(given)) if i != index)
    for tied in dict.fromkeys(((), others)):
        for step in _steps(value):
            width = Width(argument, index, value, step, tied)
            found = _try(structure, width)
            if found is None or isinstance(found, str):
                continue
            changed, reason = found
            if reason:
                refused.update(dict.fromkeys(changed, f"{width.name}: {reason}"))
                return None
            moved.update(changed)
            return width
    return None


def _steps(value: int) -> list[int]:
    small = [1, 2, 3, 4, 6, 8, 12, 16, value // 4, value // 2]
    return sorted({step for step in small if 0 < step < value})


def _try(structure: Structure, width: Width) -> tuple[list[int], str] | str | None:
    """Segments that shrink when the width does, and why that is not allowed ('' if it is).

    None or a reason in words if there is no such network.
    """
    if any(structure.config[width.argument][i] <= width.step for i in width.tied):
        return None
    config = lower(structure.config, width, width.step)
    try:
        counts = structure.counts(config)
    except Inexpressible as error:
        return str(error)
    except Exception:  # whatever a class does with a number that does not suit it
        return None
    changed = [i for i, n in enumerate(counts) if n < structure.segments[i].size]
    if not changed:
        return None
    random = torch.Generator().manual_seed(0)
    scores = [torch.rand(segment.size, generator=random) for segment in structure.segments]
    kept = rebuild.strongest(scores, counts)
    try:
        same = agrees(structure, config, kept)
    except RuntimeError:  # built, but shapes do not fit: channels divided among heads or groups
        return None
    return changed, "" if same else (
        "its channels depend on each other (normalised, or compared by attention), so none can go "
        "without changing the others"
    )


@torch.no_grad()
def agrees(structure: Structure, config: Config, kept: Sequence[torch.Tensor]) -> bool:
    """Whether the smaller network computes what the present one does with the others silenced."""
    state = structure.net.state_dict()
    small = rebuild.build(config, rebuild.transplant(state, structure.segments, kept))
    silenced = rebuild.build(structure.config, rebuild.silence(state, structure.segments, kept))
    side = max(24, getattr(structure.net, "min_size", 1))
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():  # a few classes choose another path without
        expected, found = silenced(image).detach(), small(image).detach()
    scale = float(expected.abs().max())
    return bool((expected - found).abs().max() <= TOLERANCE * max(scale, 1e-6))


def _fixed(
    structure: Structure, moved: set[int], refused: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    for i, segment in enumerate(structure.segments):
        if i in moved:
            continue
        reason = segment.fixed or refused.get(i) or "no argument of the class sets their number"
        where = ", ".join(segment.writers[:3]) + (", ..." if len(segment.writers) > 3 else "")
        yield where or next(iter(segment.rows))[0], f"{segment.size} channels: {reason}"
