"""Structured pruning: a network in, a smaller one of the same class and its configuration out.

    - _target_: esr.surgery.prune.Prune
      target: {flops: 0.75}
      importance: {_target_: esr.surgery.importance.Taylor}

as a stage's `transform`, or in Python `net, config = Prune(target={"flops": 0.75})(net, config)`.
What results is built by its class from `config` alone, so it trains, saves and loads like any
other. Channels are chosen per group of the dependency graph; how many, per constructor argument.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args

from annotated_types import Ge
from torch import nn

from esr.build import Config
from esr.errors import UserError
from esr.surgery import budget, rebuild
from esr.surgery.budget import Search, Spread
from esr.surgery.calibration import Data, draw
from esr.surgery.fuse import deploy_config, fusable, fuse
from esr.surgery.importance import Importance, Magnitude, Scores, normalised
from esr.surgery.timing import search_runtime, time_ratio
from esr.surgery.widths import Structure, analyse, describe_change, set_widths

logger = logging.getLogger(__name__)


class Prune:
    """Takes channels away until a target is met, or down to given widths."""

    def __init__(
        self,
        # What it may cost: params, flops, acts, channels (a share of now, or an amount above 1) or
        # runtime (a share); all of them are met.
        target: Mapping[str, float] | None = None,
        widths: Mapping[str, Any] | None = None,  # or new values of arguments: `{width: 46}`
        importance: Importance | None = None,  # None: the group's L2 norm
        spread: Spread = "uniform",  # see `esr.surgery.budget`
        round_to: Annotated[int, Ge(1)] = 1,  # widths become multiples, as hardware likes: 8, 16
        fixed: Sequence[str] = (),  # arguments that keep their value
        patches: Annotated[int, Ge(1)] = 16,  # to calibrate, where the importance looks at some
        size: tuple[int, int] = (128, 128),  # height and width of the image that is timed
        device: str = "cpu",  # where it is timed
    ):
        if (target is None) == (widths is None):
            raise UserError(
                "prune either to a target, such as target={flops: 0.75}, or to widths, such as "
                "widths={width: 46}"
            )
        if spread not in get_args(Spread):
            raise UserError(f"spread={spread}: expected one of {', '.join(get_args(Spread))}")
        if not isinstance(round_to, int) or round_to < 1:
            raise UserError(f"round_to={round_to}: expected a whole number, such as 8")
        self.target, self.widths = target, widths
        self.importance = importance or Magnitude()
        self.spread: Spread = spread
        self.round_to, self.fixed = round_to, list(fixed)
        self.patches, self.size, self.device = patches, (size[0], size[1]), device

    def __call__(
        self, net: nn.Module, config: Mapping[str, Any], data: Data | None = ()
    ) -> tuple[nn.Module, Config]:
        """Prune, see `esr.surgery.transform`; a training form is merged first.

        A rehearsal (`data` is None) goes by the weights' norms and times nothing. The result has
        the device, dtype and mode of the given network.

        Raises:
            UserError: the target cannot be met (the message says what can), or nothing of the
                network can be pruned.
        """
        if data is None:
            target = self.target
            if target and "runtime" in target:
                others = {what: value for what, value in target.items() if what != "runtime"}
                target = {"flops": target["runtime"]} | others
            norms = Prune(target, self.widths, None, self.spread, self.round_to, self.fixed)
            return norms(net, config)
        net, config = deployed(net, config)
        structure = analyse(net, config)
        patches = draw(data, self.patches) if self.importance.needs_patches else []
        scores = self.importance(structure.net, structure.segments, patches)
        smaller = self._choose(structure, scores)
        if self.spread == "per_layer" or smaller.keys() != config.keys():
            smaller = {k: v for k, v in smaller.items() if k in config or v != structure.config[k]}
        result = take(structure, smaller, scores)
        first = next(net.parameters())
        result.to(first.device, first.dtype).train(net.training)
        changes = describe_change(smaller, structure.config)
        now, before = budget.count_costs(smaller), budget.count_costs(structure.config)
        costs = ", ".join(
            f"{what} {getattr(now, what) / getattr(before, what):.1%}"
            for what in ("params", "flops", "acts")
        )
        logger.info("pruned %s: %s (%s of before)", type(net).__name__, changes, costs)
        return result, smaller

    def _choose(self, structure: Structure, scores: Scores) -> Config:
        if self.target is None:
            return set_widths(structure, self.widths or {})
        limits = budget.as_limits(self.target, structure.config)
        share = limits.pop("runtime", None)
        if self.spread == "per_layer":
            listed = budget.per_block(structure)
            if listed != structure.config:
                structure = analyse(structure.net, listed)
        comparable = normalised(scores, self.importance.comparable)
        search = Search(structure, comparable, self.spread, self.round_to, self.fixed)
        config = search.find(limits) if limits else structure.config
        if config is None:
            raise UserError(_best(search, limits))
        return config if share is None else self._timed(search, limits, share)

    def _timed(self, search: Search, limits: Mapping[str, float], wanted: float) -> Config:
        if wanted >= 1:
            raise UserError(f"target runtime={wanted}: expected a share below 1, such as 0.65")
        config, name = search.structure.config, type(search.structure.net).__name__
        flops = search.price(config, "flops")
        most = limits.get("flops", flops)
        found, best = search_runtime(
            wanted,
            lambda share: search.find({**limits, "flops": min(share * flops, most)}),
            lambda smaller: time_ratio(smaller, config, self.size, self.device),
        )
        if found is None:
            raise UserError(
                f"runtime={wanted} cannot be met: {best:.2f} of the time is the best that "
                f"pruning {name} reaches on this {self.device}"
            )
        logger.info("runtime: %.3f of the original's on this %s", best, self.device)
        return found


def _best(search: Search, limits: Mapping[str, float]) -> str:
    smallest, now = search.smallest(), search.structure.config
    parts = [
        f"{what} {search.price(smallest, what):,.0f} of {search.price(now, what):,.0f} (asked for "
        f"at most {most:,.0f})"
        for what, most in limits.items()
    ]
    return (
        f"the target cannot be met. The best that pruning {type(search.structure.net).__name__} "
        f"reaches is {', '.join(parts)} with {describe_change(smallest, now)}"
    )


def deployed(net: nn.Module, config: Mapping[str, Any]) -> tuple[nn.Module, Config]:
    """The network itself, merged if it was in training form, and the configuration to match.

    Raises:
        UserError: it is wrapped: compiled, distributed or an average.
    """
    kind = type(net).__name__
    if kind in ("OptimizedModule", "DistributedDataParallel", "DataParallel", "AveragedModel"):
        inner = "_orig_mod" if kind == "OptimizedModule" else "module"
        raise UserError(f"the network is wrapped in {kind}: prune what is inside, net.{inner}")
    if fusable(net):
        logger.info("merged the training form of %s before pruning", kind)
        return fuse(net), deploy_config(config)
    return net, dict(config)


def take(structure: Structure, config: Config, scores: Scores) -> nn.Module:
    """The network of `config` with the highest scores' channels of the present one."""
    kept = rebuild.strongest(scores, structure.counts(config))
    state = rebuild.transplant(structure.net.state_dict(), structure.segments, kept)
    return rebuild.build_network(config, state)
