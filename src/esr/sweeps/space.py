"""A search space as it is typed: Hydra's own grammar, read as Optuna's distributions.

model.width=range(32,64,step=8)             an integer (or float) with a step
optim.lr=tag(log,interval(1e-4,1e-2))       a float, drawn on a logarithmic scale
model.blocks=int(interval(2,8))             an integer
conv=plain,ecb,repconv                      one of several
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from esr.errors import UserError

Space = dict[str, BaseDistribution]


def split(
    typed: Iterable[str], preset: Mapping[str, str], loader: ConfigLoader
) -> tuple[list[str], Space]:
    """The overrides that all trials share, as typed, and a distribution for each searched key.

    A key of the `preset` space that is typed is replaced, by a value or by another range. `loader`
    knows the options of a group, for `glob(*)`.

    Raises:
        UserError: nothing is searched, or a range is empty.
    """
    parser = OverridesParser.create(config_loader=loader)
    fixed: dict[str, str] = {}
    space: Space = {}
    lines = [f"{key}={value}" for key, value in preset.items()] + list(typed)
    for override in parser.parse_overrides(lines):
        key = override.get_key_element()
        fixed.pop(key, None)
        space.pop(key, None)
        if override.is_sweep_override():
            space[key] = _distribution(override)
        else:
            fixed[key] = override.input_line or key
    if not space:
        raise UserError(
            "a search needs something to search: type a range, such as "
            "'optim.lr=tag(log,interval(1e-4,1e-2))' or model.width=32,48, or choose a space with "
            "sweep=architecture, training or pruning"
        )
    return list(fixed.values()), space


def overrides(space: Space, point: Mapping[str, object]) -> list[str]:
    """A point of the space as it is typed."""
    return [f"{key}={_short(point[key])}" for key in space]


def corner(space: Space) -> list[str]:
    """One point of the space as it is typed: the first choice, the smallest number."""
    first = {
        key: d.choices[0] if isinstance(d, CategoricalDistribution) else d.low  # pyright: ignore
        for key, d in space.items()
    }
    return overrides(space, first)


def _short(value: Any) -> Any:
    """0.65 where steps of 0.05 add up to 0.6499999999999999."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    log = "log" in getattr(value, "tags", ())
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            assert low is not None
            assert high is not None
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log)
            return FloatDistribution(float(low), float(high), log)
        choices: Sequence[str] = [str(choice) for choice in override.sweep_string_iterator()]
        if isinstance(value, RangeSweep) and choices:
            low, high = sorted((choices[0], choices[-1]), key=float)
            step = abs(float(value.step))
            if float(low).is_integer() and step.is_integer() and "." not in low:
                return IntDistribution(int(low), int(high), step=int(step))
            return FloatDistribution(_short(float(low)), _short(float(high)), step=step)
        return CategoricalDistribution(choices)
    except ValueError as error:
        raise UserError(f"cannot search {override.input_line}: {error}") from error
