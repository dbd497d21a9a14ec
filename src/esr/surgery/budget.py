"""How far to go: from a target to the widths of the smaller network.

A target is a share of what the network costs now (`flops: 0.75`) or an amount above 1
(`params: 290000`). How it is distributed:

* `uniform`: every width by the same share;
* `global`: one width at a time, whichever loses least importance for what it saves;
* `per_layer`: the same, after one number for all blocks has become a list where the class takes
  lists (`int | Sequence[int]`), so that each block finds its own width.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch

from esr.build import Config, target
from esr.errors import UserError
from esr.metrics.complexity import Complexity, complexity
from esr.surgery import rebuild
from esr.surgery.channels import is_weight
from esr.surgery.importance import Scores
from esr.surgery.rebuild import Inexpressible, outline
from esr.surgery.widths import Structure, Width

COSTS = ("params", "flops", "acts", "channels", "runtime")
SPREADS = ("uniform", "global", "per_layer")
LEAST = 0.25
"""Share of itself that a width keeps at least where widths are chosen one by one."""

SIZE = (256, 256)
"""Height and width of the image that FLOPs and activations are counted for."""


def count_costs(config: Config) -> Complexity:
    """All that the challenge's counter counts, without allocating the network."""
    return complexity(outline(config), SIZE)


def cost(config: Config, what: str) -> float:
    """Parameters, FLOPs or activations by the challenge's counter, or all output channels."""
    if what == "channels":
        shapes = rebuild.shapes(outline(config))
        return sum(shape[0] for name, shape in shapes.items() if is_weight(name, shape))
    return float(getattr(count_costs(config), what))


def as_limits(wanted: Mapping[str, float], config: Config) -> dict[str, float]:
    """The target as amounts that may not be exceeded.

    Raises:
        UserError: an unknown cost, or an amount that is none.
    """
    if not wanted or any(name not in COSTS for name in wanted):
        raise UserError(f"target {dict(wanted)}: expected one or more of {', '.join(COSTS)}")
    limits = {}
    for name, value in wanted.items():
        if not isinstance(value, int | float) or not value > 0:
            raise UserError(
                f"target {name}={value} leaves nothing: expected a share above 0 and below 1, or "
                "an amount above 1"
            )
        limits[name] = value if value > 1 or name == "runtime" else value * cost(config, name)
    return limits


def search_uniform(
    structure: Structure,
    fits: Callable[[Config], bool],
    round_to: int,
    fixed: Sequence[str],
) -> Config | None:
    """The largest expressible uniform configuration that fits; None if none does."""
    candidates = ladder(structure, round_to, fixed)
    low, high = 0, len(candidates)
    while low < high:  # costs fall along the ladder; what the class refuses counts as too large
        middle = (low + high) // 2
        below = next(
            (i for i in range(middle, high) if _expressible(structure, candidates[i])), high
        )
        if below == high or fits(candidates[below]):
            high = middle
        else:
            low = below + 1
    return next((c for c in candidates[low:] if _expressible(structure, c) and fits(c)), None)


def ladder(structure: Structure, round_to: int, fixed: Sequence[str]) -> list[Config]:
    """The uniform configurations from the present one down to the smallest.

    Between two of them the widths go down one after the other, so that costs fall in small steps.
    """
    free = _free(structure, fixed)
    if not free:
        besides = f" besides the fixed {', '.join(fixed)}" if fixed else ""
        raise UserError(
            f"{type(structure.net).__name__} has no width that can be pruned{besides}. "
            f"{explain_fixed(structure)}"
        )
    found = [_rounded(structure, round_to, fixed)]
    for share in range(255, 0, -1):
        for width in free:
            config = width.write(found[-1], _round(width.value * share / 256, width, round_to))
            if config != found[-1]:
                found.append(config)
    return found


def search_greedy(
    structure: Structure,
    scores: Scores,
    fits: Callable[[Config], bool],
    price: Callable[[Config], float],
    round_to: int,
    fixed: Sequence[str],
    least: float = LEAST,
) -> Config | None:
    """Lower one width at a time, the cheapest in importance for the price it saves, until it fits.

    No width falls below the share `least` of what it was: scores are measured with everything
    else in place, and say little about the last channels of a layer.
    """
    ranked = [torch.cat([score.new_zeros(1), score.sort().values.cumsum(0)]) for score in scores]
    config = _rounded(structure, round_to, fixed)

    def gain(width: Width) -> float:
        """What is saved for the importance that is lost; -1 where the width cannot go down."""
        smaller = _lowered(config, width, round_to, least)
        if smaller is None:
            return -1.0
        try:
            before, after = structure.counts(config), structure.counts(smaller)
        except Inexpressible:
            return -1.0
        parts = zip(ranked, before, after, strict=True)
        lost = sum(float(r[len(r) - 1 - a] - r[len(r) - 1 - b]) for r, b, a in parts)
        return (price(config) - price(smaller)) / max(lost, 1e-12)

    gains = {width: gain(width) for width in _free(structure, fixed)}
    while not fits(config):
        best = max(gains, key=lambda width: gains[width])
        if gains[best] < 0:
            return None
        now = gain(best)  # it may have been computed for an earlier configuration
        if now < max((g for width, g in gains.items() if width is not best), default=-1.0):
            gains[best] = now
            continue
        config = _lowered(config, best, round_to, least) or config
        gains[best] = gain(best)
    return config


def smallest_config(
    structure: Structure, spread: str, round_to: int, fixed: Sequence[str]
) -> Config:
    """The smallest configuration that a search may return."""
    if spread == "uniform":
        candidates = reversed(ladder(structure, round_to, fixed))
        return next(config for config in candidates if _expressible(structure, config))
    config = structure.config
    for width in _free(structure, fixed):
        while smaller := _lowered(config, width, round_to, LEAST):
            if not _expressible(structure, smaller):
                break
            config = smaller
    return config


def per_block(structure: Structure) -> Config:
    """The configuration with a list of one number a block, where the class takes both."""
    parameters = inspect.signature(target(structure.config["_target_"])).parameters
    config = dict(structure.config)
    for width in structure.widths:
        accepts = str(parameters[width.argument].annotation)
        if width.index is not None or "Sequence" not in accepts:
            continue
        for depth in range(2, 65):
            listed = {**config, width.argument: [width.value] * depth}
            try:
                if rebuild.shapes(outline(listed)) == structure.shapes:
                    config = listed
                    break
            except UserError:  # another number of blocks
                continue
    return config


def explain_fixed(structure: Structure) -> str:
    """What is fixed, and why, in one line: each reason once, with the first part it holds for."""
    first: dict[str, str] = {}
    parts = Counter()
    for where, why in structure.fixed.items():
        reason = why.partition(": ")[2]
        first.setdefault(reason, where)
        parts[reason] += 1
    return "; ".join(
        f"{where}{f' and {parts[why] - 1} more' if parts[why] > 1 else ''}: {why}"
        for why, where in first.items()
    )


def describe_change(config: Config, before: Config) -> str:
    """The widths that differ, as `width 46 -> 40, mid 48 -> 42`."""
    changes = [
        f"{name} {before[name]} -> {value}"
        for name, value in config.items()
        if name in before and before[name] != value
    ]
    return ", ".join(changes) or "nothing"


def _free(structure: Structure, fixed: Sequence[str]) -> list[Width]:
    known = dict.fromkeys(width.argument for width in structure.widths)
    for name in fixed:
        if name not in known:
            raise UserError(f"fixed={name} is no width; there are: {', '.join(known)}")
    return [width for width in structure.widths if width.argument not in fixed]


def _rounded(structure: Structure, round_to: int, fixed: Sequence[str]) -> Config:
    """The present configuration with every width that is not `fixed` down to a multiple."""
    config = structure.config
    for width in _free(structure, fixed):
        config = width.write(config, _round(width.value, width, round_to))
    return config if _expressible(structure, config) else structure.config


def _round(value: float, width: Width, round_to: int) -> int:
    if round_to > 1:
        most = width.value // round_to * round_to or width.value  # below one multiple: as it is
        return min(most, max(round_to, round_to * round(value / round_to)))
    steps = round((width.value - value) / width.step)
    most = (width.value - 1) // width.step
    return width.value - width.step * min(steps, most)


def _lowered(config: Config, width: Width, round_to: int, least: float) -> Config | None:
    """The configuration with one width a step lower; None where that is too low."""
    value = width.read(config)
    by = (value % round_to or round_to) if round_to > 1 else width.step
    others = [config[width.argument][i] for i in width.tied]
    if value - by < max(1, least * width.value) or any(other <= by for other in others):
        return None
    return width.lower(config, by)


def _expressible(structure: Structure, config: Config) -> bool:
    try:
        structure.counts(config)
    except Exception:  # the class refuses the number, or the channels do not work out
        return False
    return True
