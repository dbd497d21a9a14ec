"""Which constructor arguments set widths, found by trying: nobody has to declare them.

An argument is a width if the class, given a smaller number, builds the same tensors with fewer
channels, if those channels are whole segments of the dependency graph, and if leaving them out is
the same as silencing them. The last is computed, not assumed: attention and normalisation over
channels fail it, and say so.
"""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from esr.build import Config, target
from esr.errors import UserError
from esr.surgery import rebuild
from esr.surgery.channels import Segment, trace
from esr.surgery.rebuild import Inexpressible, Shapes, build_network

NOT_WIDTHS = ("scale", "data_range")
DEPENDENT = (
    "its channels depend on each other (normalised, or compared by attention), so none can go "
    "without changing the others"
)
TOLERANCE = 1e-4
"""Largest difference, relative to the output, between a silenced and a smaller network."""


@dataclass(frozen=True)
class Width:
    """A number in the configuration that sets channels."""

    argument: str  # of the constructor
    index: int | None  # its position where the argument is a list
    value: int  # at present
    step: int  # what it can be lowered by; attention with 8 heads takes multiples of 8, say
    tied: tuple[int, ...] = ()  # other positions of the list that go down by the same amount

    @property
    def name(self) -> str:
        """As it is typed: `width` or `outputs[2]`."""
        return self.argument if self.index is None else f"{self.argument}[{self.index}]"

    def read(self, config: Config) -> int:
        """Its value in a configuration."""
        given = config[self.argument]
        return given if self.index is None else given[self.index]

    def write(self, config: Config, value: int) -> Config:
        """The configuration with this value; what is tied to it keeps its own."""
        if self.index is None:
            return {**config, self.argument: value}
        values = list(config[self.argument])
        values[self.index] = value
        return {**config, self.argument: values}

    def lower(self, config: Config, by: int) -> Config:
        """The configuration with the width, and what is tied to it, lowered by `by`."""
        for position in (self.index, *self.tied):
            width = dataclasses.replace(self, index=position)
            config = width.write(config, width.read(config) - by)
        return config


@dataclass(frozen=True)
class Structure:
    """A network, taken apart for pruning."""

    config: Config  # the defaults of the widths written out
    net: nn.Module  # a plain float32 copy on the CPU
    segments: list[Segment]  # its channels
    shapes: Shapes  # of its tensors
    widths: tuple[Width, ...] = ()  # the numbers that can be lowered
    fixed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Part -> why no channel of it can go, a line each."""

    def counts(self, config: Config) -> list[int]:
        """Channels of each segment under another configuration.

        Raises:
            Inexpressible: see `rebuild.solve_counts`.
        """
        found = rebuild.shapes(rebuild.outline(config))
        return rebuild.solve_counts(self.segments, self.shapes, found)


def analyse(net: nn.Module, config: Config) -> Structure:
    """Take a plain network, of any device and dtype, apart; it is left alone.

    Raises:
        UserError: the configuration does not build the network.
    """
    rebuild.require_builds(config, net)
    copy = build_network(config, net.state_dict())
    config = {**config, **_defaults(config)}
    structure = Structure(config, copy, trace(copy), rebuild.shapes(copy))
    widths: list[Width] = []
    moved: set[int] = set()  # segments that a width sets
    refused: dict[int, str] = {}  # and those that one would, if their channels were independent
    for candidates in _candidates(config):
        for width in candidates:
            if (found := _try(structure, width)) is None:
                continue
            changed, independent = found
            if independent:
                widths.append(width)
                moved.update(changed)
            else:
                refused.update(dict.fromkeys(changed, f"{width.name}: {DEPENDENT}"))
            break
    fixed: dict[str, str] = {}
    for i, segment in enumerate(structure.segments):
        if i not in moved:
            reason = segment.fixed or refused.get(i) or "no argument of the class sets their number"
            where = ", ".join(segment.writers[:3]) + (", ..." if len(segment.writers) > 3 else "")
            where = where or next(iter(segment.rows))[0]
            fixed[where] = f"{segment.size} channels: {reason}"
    return dataclasses.replace(structure, widths=tuple(widths), fixed=fixed)


def set_widths(structure: Structure, wanted: Mapping[str, Any]) -> Config:
    """The configuration with widths as the user wrote them, which pruning can reach.

    Raises:
        UserError: a name is no argument, a width is larger than now, or they do not go together.
    """
    for name, value in wanted.items():
        if name not in structure.config:
            known = sorted({width.argument for width in structure.widths})
            raise UserError(
                f"{type(structure.net).__name__} has no width {name}; there are: {', '.join(known)}"
            )
        before = structure.config[name]
        pairs = zip(_list(before, value), _list(value, before), strict=False)
        if any(not isinstance(b, int) or b < 1 or b > a for a, b in pairs):
            raise UserError(f"{name}={value}: expected at least 1 and at most what it is, {before}")
    config = {**structure.config, **wanted}
    try:
        structure.counts(config)
    except Inexpressible as error:
        changes = describe_change(config, structure.config)
        raise UserError(
            f"{type(structure.net).__name__} cannot be pruned to {changes}: {error}"
        ) from None
    return config


def describe_change(config: Config, before: Config) -> str:
    """The widths that differ, as `width 46 -> 40, mid 48 -> 42`."""
    changes = [
        f"{name} {before[name]} -> {value}"
        for name, value in config.items()
        if name in before and before[name] != value
    ]
    return ", ".join(changes) or "nothing"


def _list(value: Any, like: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    return [value] * (len(like) if isinstance(like, list | tuple) else 1)


def _defaults(config: Config) -> dict[str, Any]:
    """Arguments with numbers that the configuration leaves to the class."""
    parameters = inspect.signature(target(config["_target_"])).parameters.values()
    return {
        p.name: list(p.default) if isinstance(p.default, tuple) else p.default
        for p in parameters
        if p.name not in config and _is_numeric(p.default)
    }


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(type(item) is int for item in value)
    return type(value) is int


def _candidates(config: Config) -> Iterator[list[Width]]:
    """For each number in the configuration the ways to lower it, in the order they are tried."""
    for argument, given in config.items():
        if argument in NOT_WIDTHS or not _is_numeric(given):
            continue
        is_list = isinstance(given, list | tuple)
        for index, value in enumerate(given if is_list else [given]):
            others = tuple(i for i in range(len(given)) if i != index) if is_list else ()
            small = {1, 2, 3, 4, 6, 8, 12, 16, value // 4, value // 2}
            yield [
                Width(argument, index if is_list else None, value, step, tied)
                for tied in dict.fromkeys(((), others))
                for step in sorted(step for step in small if 0 < step < value)
            ]


def _try(structure: Structure, width: Width) -> tuple[list[int], bool] | None:
    """The segments that shrink when the width does, and whether their channels are independent.

    None if there is no such network.
    """
    if any(structure.config[width.argument][i] <= width.step for i in width.tied):
        return None
    config = width.lower(structure.config, width.step)
    try:
        counts = structure.counts(config)
    except (Inexpressible, UserError):  # the number does not suit the class
        return None
    changed = [i for i, n in enumerate(counts) if n < structure.segments[i].size]
    if not changed:
        return None
    random = torch.Generator().manual_seed(0)
    scores = [torch.rand(segment.size, generator=random) for segment in structure.segments]
    try:
        return changed, _agrees(structure, config, rebuild.strongest(scores, counts))
    except RuntimeError:  # built, but shapes do not fit: channels divided among heads or groups
        return None


@torch.no_grad()
def _agrees(structure: Structure, config: Config, kept: Sequence[torch.Tensor]) -> bool:
    """Whether the smaller network computes what the present one does with the others silenced."""
    state = structure.net.state_dict()
    small = build_network(config, rebuild.transplant(state, structure.segments, kept))
    silenced = build_network(structure.config, rebuild.silence(state, structure.segments, kept))
    side = max(24, getattr(structure.net, "min_size", 1))
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():  # a few classes choose another path without
        expected, found = silenced(image).detach(), small(image).detach()
    scale = float(expected.abs().max())
    return bool((expected - found).abs().max() <= TOLERANCE * max(scale, 1e-6))
