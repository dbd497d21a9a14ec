"""From a configuration to a network of other widths, with the channels that stay.

A smaller network is asked from its own class: `construct` builds it, `solve` reads off its shapes
how many channels of each segment it has, and `transplant` copies the chosen ones strictly. So
whatever a class can express can be pruned to, and nothing else.
"""

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from esr.errors import UserError
from esr.surgery.channels import Segment

Config = dict[str, Any]
"""Constructor arguments with the class under `_target_`, as in conf/model."""

Shapes = dict[str, tuple[int, ...]]
State = Mapping[str, torch.Tensor]


class Inexpressible(Exception):
    """These widths do not follow from the present ones by taking channels away."""


def construct(config: Any) -> Any:
    """Build what a resolved configuration names; nested `_target_` and `_partial_` included.

    Hydra's `instantiate` does the same; here it would make surgery depend on Hydra.
    """
    if isinstance(config, Mapping):
        values = {k: construct(v) for k, v in config.items() if k not in ("_target_", "_partial_")}
        if "_target_" not in config:
            return values
        made = partial(target(config), **values)
        return made if config.get("_partial_") else made()
    if isinstance(config, list | tuple):
        return [construct(item) for item in config]
    return config


def target(config: Mapping[str, Any]) -> Any:
    """The class or function under `_target_`."""
    module, _, name = str(config["_target_"]).rpartition(".")
    return getattr(importlib.import_module(module), name)


def build(config: Config, state: State | None = None) -> nn.Module:
    """The network of `config` on the CPU in eval mode; with `state`, in float32 with its values."""
    with torch.random.fork_rng(devices=[]):
        net = construct(config)
    if state is not None:
        net.load_state_dict({k: v.detach().cpu() for k, v in state.items()})
        net.float()
    return net.eval()


def shapes(config: Config) -> Shapes:
    """Names and shapes of the state dict, without allocating it where the class allows."""
    try:
        with torch.device("meta"):
            net = construct(config)
    except (RuntimeError, NotImplementedError):  # it computes with real values when it is built
        net = build(config)
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def solve(segments: Sequence[Segment], old: Shapes, new: Shapes) -> list[int]:
    """How many channels of each segment a network of shapes `new` keeps.

    Every dimension of every tensor is an equation in the segments that run over it.

    Raises:
        Inexpressible: there is no solution; the message names the tensor.
    """
    if old.keys() != new.keys():
        raise Inexpressible("it would have other layers")
    covered = {slot for segment in segments for slot in segment.rows}
    equations: list[tuple[str, dict[int, int], int]] = []
    for name, shape in old.items():
        if len(shape) != len(new[name]):
            raise Inexpressible(f"{name} would get another number of dimensions")
        for dim, (before, after) in enumerate(zip(shape, new[name], strict=True)):
            if (name, dim) in covered:
                terms = {
                    i: segment.rows[name, dim].shape[1]
                    for i, segment in enumerate(segments)
                    if (name, dim) in segment.rows
                }
                rest = before - sum(n * segments[i].size for i, n in terms.items())
                equations.append((name, terms, after - rest))
            elif before != after:
                raise Inexpressible(f"{name} would change where no channel leads to")
    return _solve(segments, equations)


def _solve(
    segments: Sequence[Segment], equations: list[tuple[str, dict[int, int], int]]
) -> list[int]:
    known: dict[int, int] = {}
    while len(known) < len(segments):
        progress = False
        for name, terms, total in equations:
            unknown = {i: n for i, n in terms.items() if i not in known}
            if not unknown:
                continue
            left = total - sum(known[i] * n for i, n in terms.items() if i in known)
            full = sum(segments[i].size * n for i, n in unknown.items())
            if len(unknown) == 1 or left == full:
                for i, n in unknown.items():
                    known[i] = (
                        _whole(left * segments[i].size, full, name)
                        if len(unknown) > 1
                        else (_whole(left, n, name))
                    )
                progress = True
        if not progress:  # the tensors leave a choice: shrink what is left in proportion
            name, terms, total = next(e for e in equations if any(i not in known for i in e[1]))
            unknown = {i: n for i, n in terms.items() if i not in known}
            left = total - sum(known[i] * n for i, n in terms.items() if i in known)
            full = sum(segments[i].size * n for i, n in unknown.items())
            for i in unknown:
                known[i] = _whole(left * segments[i].size, full, name)
    for name, terms, total in equations:
        if sum(known[i] * n for i, n in terms.items()) != total:
            raise Inexpressible(f"{name} would not fit the tensors around it")
    for i, segment in enumerate(segments):
        if known[i] > segment.size:
            raise Inexpressible(f"{', '.join(segment.writers[:2])} would grow")
        if known[i] < segment.size and (segment.fixed or known[i] < 1):
            raise Inexpressible(segment.fixed or "no channel would be left")
    return [known[i] for i in range(len(segments))]


def _whole(numerator: int, denominator: int, name: str) -> int:
    if numerator % denominator:
        raise Inexpressible(f"the channels of {name} would not divide evenly")
    return numerator // denominator


def strongest(scores: Sequence[torch.Tensor], counts: Sequence[int]) -> list[torch.Tensor]:
    """For each segment the positions of its `count` highest scores, in their order."""
    return [
        torch.sort(torch.argsort(score, descending=True, stable=True)[:count]).values
        for score, count in zip(scores, counts, strict=True)
    ]


@torch.no_grad()
def transplant(
    state: State, segments: Sequence[Segment], kept: Sequence[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors of the smaller network.

    Args:
        state: of the present network.
        segments: see `graph.trace`.
        kept: for each segment the positions of the channels that stay.
    """
    gone = _gone(state, segments, kept)
    result = dict(state)
    for (name, dim), lost in gone.items():
        stay = torch.ones(state[name].shape[dim], dtype=torch.bool)
        stay[lost] = False
        index = stay.nonzero().flatten().to(state[name].device)
        result[name] = result[name].index_select(dim, index)
    _keep_norms(state, result, gone)
    return result


@torch.no_grad()
def silence(
    state: State,
    segments: Sequence[Segment],
    kept: Sequence[torch.Tensor],
) -> dict[str, torch.Tensor]:
    """The tensors of the present network with everything that does not stay set to zero.

    It computes what the smaller network computes, where channels are independent of each other.
    """
    gone = _gone(state, segments, kept)
    result = {name: tensor.clone() for name, tensor in state.items()}
    for (name, dim), lost in gone.items():
        if not (name.endswith("original1") and dim == 0):  # a direction needs a length
            result[name].index_fill_(dim, lost.to(result[name].device), 0)
    _keep_norms(state, result, gone)
    return result


def _gone(
    state: State, segments: Sequence[Segment], kept: Sequence[torch.Tensor]
) -> dict[tuple[str, int], torch.Tensor]:
    gone: dict[tuple[str, int], list[torch.Tensor]] = {}
    for segment, stay in zip(segments, kept, strict=True):
        lost = torch.ones(segment.size, dtype=torch.bool)
        lost[stay] = False
        for slot, rows in segment.rows.items():
            if lost.any():
                gone.setdefault(slot, []).append(rows[lost].flatten())
    return {slot: torch.cat(rows) for slot, rows in gone.items()}


def _keep_norms(
    state: State, result: dict[str, torch.Tensor], gone: Mapping[tuple[str, int], torch.Tensor]
) -> None:
    """Weight-normed kernels stay what they are though their directions lost some inputs."""
    for name in result:
        if not name.endswith("parametrizations.weight.original1") or (name, 1) not in gone:
            continue
        norms = name[:-1] + "0"
        if result[norms].shape[0] == state[norms].shape[0]:
            before = state[name]
        else:
            stay = torch.ones(state[name].shape[0], dtype=torch.bool)
            stay[gone[name, 0]] = False
            before = state[name][stay]
        ratio = result[name].flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
        result[norms] = result[norms] * ratio.reshape(result[norms].shape)


def check(net: nn.Module, config: Config) -> None:
    """Refuse a network that `config` does not build.

    Raises:
        UserError: the names or shapes of the tensors differ.
    """
    found = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    if found != shapes(config):
        raise UserError(
            f"the configuration ({config['_target_']}) does not build the network that is to be "
            f"pruned ({type(net).__name__}): pass the model configuration that it was made from"
        )
