"""How far to go: from a target to the widths of the smaller network.

A target is a share of what the network costs now (`flops: 0.75`) or an amount above 1
(`params: 290000`). How it is distributed:

* `uniform`: every width by the same share;
* `global`: one width at a time, whichever loses least importance for what it saves;
* `per_layer`: the same, after one number for all blocks has become a list where the class takes
  lists (`int | Sequence[int]`), so that each block finds its own width.
"""

import inspect
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Literal

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
Spread = Literal["uniform", "global", "per_layer"]

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


class Search:
    """Looks for the largest network within limits.

    Raises:
        UserError: a fixed argument is no width, or there is nothing else to prune.
    """

    def __init__(
        self,
        structure: Structure,  # the present network
        scores: Scores,  # of its channels, comparable between segments
        spread: Spread,
        round_to: int,  # widths become multiples of it
        fixed: Sequence[str],  # arguments that keep their value
    ):
        known = dict.fromkeys(width.argument for width in structure.widths)
        for name in fixed:
            if name not in known:
                raise UserError(f"fixed={name} is no width; there are: {', '.join(known)}")
        self.free = [width for width in structure.widths if width.argument not in fixed]
        if not self.free:
            besides = f" besides the fixed {', '.join(fixed)}" if fixed else ""
            raise UserError(
                f"{type(structure.net).__name__} has no width that can be pruned{besides}. "
                f"{explain_fixed(structure)}"
            )
        self.structure, self.scores = structure, scores
        self.spread, self.round_to = spread, round_to
        self._costs: dict[tuple[str, str], float] = {}

    def find(self, limits: Mapping[str, float]) -> Config | None:
        """The configuration that stays within `limits` (see `as_limits`); None if none does."""
        return self._uniform(limits) if self.spread == "uniform" else self._greedy(limits)

    def smallest(self) -> Config:
        """The smallest configuration that may be found."""
        if self.spread == "uniform":
            return next(c for c in reversed(self._ladder()) if self._expressible(c))
        config = self.structure.config
        for width in self.free:
            while smaller := self._lowered(config, width):
                if not self._expressible(smaller):
                    break
                config = smaller
        return config

    def price(self, config: Config, what: str) -> float:
        """The `cost`, counted once."""
        key = (str(config), what)
        if key not in self._costs:
            self._costs[key] = cost(config, what)
        return self._costs[key]

    def _fits(self, config: Config, limits: Mapping[str, float]) -> bool:
        return all(self.price(config, what) <= most for what, most in limits.items())

    def _uniform(self, limits: Mapping[str, float]) -> Config | None:
        """The first of the ladder that can be built and fits."""
        ladder = self._ladder()

        def first(start: int) -> Config | None:
            return next((c for c in ladder[start:] if self._expressible(c)), None)

        def is_small_enough(start: int) -> bool:
            return (smaller := first(start)) is None or self._fits(smaller, limits)

        # Costs fall along the ladder, so it need not be climbed step by step.
        return first(bisect_left(range(len(ladder)), True, key=is_small_enough))

    def _ladder(self) -> list[Config]:
        """The uniform configurations from the present one down to the smallest.

        Between two of them the widths go down one after the other, so that costs fall in small
        steps.
        """
        found = [self._rounded()]
        for share in range(255, 0, -1):
            for width in self.free:
                value = self._round(width.value * share / 256, width)
                config = width.write(found[-1], value)
                if config != found[-1]:
                    found.append(config)
        return found

    def _greedy(self, limits: Mapping[str, float]) -> Config | None:
        """Lower one width at a time, the cheapest in importance for the price it saves.

        The price is the first limit's. No width falls below the share `LEAST` of what it was:
        scores are measured with everything else in place, and say little about the last channels of
        a layer.
        """
        counts, what = self.structure.counts, next(iter(limits))
        losses = [torch.cat([s.new_zeros(1), s.sort().values.cumsum(0)]) for s in self.scores]
        config = self._rounded()

        def gain(width: Width) -> float:
            """What is saved for the importance that is lost; -1 where the width cannot go down."""
            smaller = self._lowered(config, width)
            if smaller is None:
                return -1.0
            try:
                pairs = zip(losses, counts(config), counts(smaller), strict=True)
            except Inexpressible:
                return -1.0
            lost = sum(float(of[len(of) - 1 - a] - of[len(of) - 1 - b]) for of, b, a in pairs)
            return (self.price(config, what) - self.price(smaller, what)) / max(lost, 1e-12)

        gains = {width: gain(width) for width in self.free}
        while not self._fits(config, limits):
            best = max(gains, key=lambda width: gains[width])
            if gains[best] < 0:
                return None
            now = gain(best)  # it may have been computed for an earlier configuration
            if now < max((g for width, g in gains.items() if width is not best), default=-1.0):
                gains[best] = now
                continue
            config = self._lowered(config, best) or config
            gains[best] = gain(best)
        return config

    def _rounded(self) -> Config:
        """The present configuration with every width that is not fixed down to a multiple."""
        config = self.structure.config
        for width in self.free:
            config = width.write(config, self._round(width.value, width))
        return config if self._expressible(config) else self.structure.config

    def _round(self, value: float, width: Width) -> int:
        if (unit := self.round_to) > 1:
            most = width.value // unit * unit or width.value  # below one multiple: as it is
            return min(most, max(unit, unit * round(value / unit)))
        steps = round((width.value - value) / width.step)
        return width.value - width.step * min(steps, (width.value - 1) // width.step)

    def _lowered(self, config: Config, width: Width) -> Config | None:
        """The configuration with one width a step lower; None where that is too low."""
        value = width.read(config)
        by = (value % self.round_to or self.round_to) if self.round_to > 1 else width.step
        others = [config[width.argument][i] for i in width.tied]
        if value - by < max(1, LEAST * width.value) or any(other <= by for other in others):
            return None
        return width.lower(config, by)

    def _expressible(self, config: Config) -> bool:
        try:
            self.structure.counts(config)
        except (Inexpressible, UserError):  # the channels do not work out, or the class refuses
            return False
        return True


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
    parts: dict[str, list[str]] = {}
    for where, why in structure.fixed.items():
        parts.setdefault(why.partition(": ")[2], []).append(where)
    return "; ".join(
        f"{first}{f' and {len(more)} more' if more else ''}: {reason}"
        for reason, (first, *more) in parts.items()
    )
