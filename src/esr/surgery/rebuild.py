"""From a configuration to a network of other widths, with the channels that stay.

A smaller network is asked from its own class: `build_network` makes it, `solve_counts` reads off
its shapes how many channels of each segment it has, and `transplant` copies the chosen ones
strictly. So whatever a class can express can be pruned to, and nothing else.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from esr.build import Config, construct
from esr.errors import UserError
from esr.surgery.channels import DIRECTION, Segment, Slot, can_be_zero, gone, lengths, others

Shapes = dict[str, tuple[int, ...]]
State = Mapping[str, torch.Tensor]


class Inexpressible(Exception):
    """These widths do not follow from the present ones by taking channels away."""


def build_network(config: Config, state: State | None = None) -> nn.Module:
    """The network of `config` on the CPU in eval mode; with `state`, in float32 with its values."""
    with torch.random.fork_rng(devices=[]):
        net: nn.Module = construct(config)
    if state is not None:
        net.load_state_dict({k: v.detach().cpu() for k, v in state.items()})
        net.float()
    return net.eval()


def outline(config: Config) -> nn.Module:
    """The network of `config` without memory for its tensors, where the class allows."""
    try:
        with torch.device("meta"):
            return construct(config)
    except UserError:  # it may compute with real values when it is built
        return build_network(config)


def shapes(net: nn.Module) -> Shapes:
    """Names and shapes of the state dict."""
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def require_builds(config: Config, net: nn.Module) -> None:
    """Refuse a configuration that does not build `net`.

    Raises:
        UserError: the names or shapes of the tensors differ.
    """
    if shapes(net) != shapes(outline(config)):
        raise UserError(
            f"the configuration ({config['_target_']}) does not build the network that is to be "
            f"pruned ({type(net).__name__}): pass the model configuration that it was made from"
        )


def solve_counts(segments: Sequence[Segment], old: Shapes, new: Shapes) -> list[int]:
    """How many channels of each segment a network of shapes `new` keeps.

    Every dimension of every tensor is an equation in the segments that run over it.

    Raises:
        Inexpressible: there is no solution; the message names the tensor.
    """
    if old.keys() != new.keys():
        raise Inexpressible("it would have other layers")
    equations: list[tuple[str, dict[int, int], int]] = []
    for name, shape in old.items():
        if len(shape) != len(new[name]):
            raise Inexpressible(f"{name} would get another number of dimensions")
        for dim, (before, after) in enumerate(zip(shape, new[name], strict=True)):
            slot = (name, dim)
            terms = {i: s.rows[slot].shape[1] for i, s in enumerate(segments) if slot in s.rows}
            if terms:
                rest = before - sum(n * segments[i].size for i, n in terms.items())
                equations.append((name, terms, after - rest))
            elif before != after:
                raise Inexpressible(f"{name} would change where no channel leads to")
    return _solve(segments, equations)


def _solve(
    segments: Sequence[Segment], equations: list[tuple[str, dict[int, int], int]]
) -> list[int]:
    known: dict[int, int] = {}

    def settle(name: str, terms: dict[int, int], total: int, guess: bool) -> bool:
        """Find an equation's unknowns where they follow from it; to guess is to share evenly."""
        unknown = {i: n for i, n in terms.items() if i not in known}
        left = total - sum(known[i] * n for i, n in terms.items() if i in known)
        full = sum(segments[i].size * n for i, n in unknown.items())
        if not unknown or not (guess or len(unknown) == 1 or left == full):
            return False
        for i in unknown:
            known[i], over = divmod(left * segments[i].size, full)
            if over:
                raise Inexpressible(f"the channels of {name} would not divide evenly")
        return True

    while len(known) < len(segments):
        found = [settle(*equation, guess=False) for equation in equations]
        if not any(found):  # the tensors leave a choice: shrink what is left in proportion
            settle(*next(e for e in equations if not e[1].keys() <= known.keys()), guess=True)
    for name, terms, total in equations:
        if sum(known[i] * n for i, n in terms.items()) != total:
            raise Inexpressible(f"{name} would not fit the tensors around it")
    for i, segment in enumerate(segments):
        if known[i] > segment.size:
            raise Inexpressible(f"{', '.join(segment.writers[:2])} would grow")
        if known[i] < segment.size and (segment.fixed or known[i] < 1):
            raise Inexpressible(segment.fixed or "no channel would be left")
    return [known[i] for i in range(len(segments))]


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
    """The tensors of the smaller network; `kept` are the positions that stay, for each segment."""
    lost = gone(segments, kept)
    result = dict(state)
    for (name, dim), rows in lost.items():
        stay = others(rows, state[name].shape[dim]).to(state[name].device)
        result[name] = result[name].index_select(dim, stay)
    _keep_norms(state, result, lost)
    return result


@torch.no_grad()
def silence(
    state: State, segments: Sequence[Segment], kept: Sequence[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors of the present network with everything that does not stay set to zero.

    It computes what the smaller network computes, where channels are independent of each other.
    """
    lost = gone(segments, kept)
    result = {name: tensor.clone() for name, tensor in state.items()}
    for (name, dim), rows in lost.items():
        if can_be_zero((name, dim)):
            result[name].index_fill_(dim, rows.to(result[name].device), 0)
    _keep_norms(state, result, lost)
    return result


def _keep_norms(
    state: State, result: dict[str, torch.Tensor], lost: Mapping[Slot, torch.Tensor]
) -> None:
    """Weight-normed kernels stay what they are though their directions lost some inputs."""
    for name in result:
        if not name.endswith(DIRECTION) or (name, 1) not in lost:
            continue
        before, after = state[name], result[name]
        if len(after) < len(before):
            before = before[others(lost[name, 0], len(before))]
        ratio = after.flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
        length = lengths(name)
        result[length] = result[length] * ratio.reshape(result[length].shape)
