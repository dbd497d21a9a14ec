"""Cut a network down to a narrower one of the same class, keeping the strongest channels."""

from collections.abc import Iterator

import torch
from torch import nn

from esr.errors import UserError

Cut = tuple[str, int, int, int]
"""A tensor's name, one of its dimensions, and that dimension's size before and after."""


@torch.no_grad()
def narrow(net: nn.Module, into: nn.Module) -> nn.Module:
    """Return `into` with the weights of the strongest channels of `net`.

    Dimensions that shrink from the same size to the same size lose the same channels, which keeps
    residual sums and concatenations of whole groups consistent whatever the architecture; a
    channel is as strong as the norm of all weights that it takes part in. It is one-shot and looks
    at magnitudes only.

    Args:
        net: the wider network.
        into: the same class with smaller widths; its own weights are lost.

    Raises:
        UserError: the networks differ in more than widths.
    """
    old, new = net.state_dict(), into.state_dict()
    if old.keys() != new.keys():
        raise UserError(
            f"cannot narrow {type(net).__name__} into {type(into).__name__}: their tensors have "
            "other names, not only other sizes"
        )
    cuts = list(_cuts(old, new))
    pairs = sorted({(before, after) for _, _, before, after in cuts})
    for pair in _groups(pairs):
        strength = torch.zeros(pair[0], dtype=torch.float64)
        members = [cut for cut in cuts if _belongs(cut, pair)]
        for name, dim, before, _ in members:
            squares = old[name].double().cpu().square().movedim(dim, 0).reshape(before, -1).sum(1)
            strength += squares.reshape(-1, pair[0]).sum(0)
        kept = strength.topk(pair[1]).indices.sort().values
        for name, dim, before, _ in members:
            offsets = torch.arange(0, before, pair[0])[:, None]
            index = (offsets + kept).flatten().to(old[name].device)
            old[name] = old[name].index_select(dim, index)
    into.load_state_dict(old)
    return into


def _cuts(old: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> Iterator[Cut]:
    for name, tensor in old.items():
        if tensor.dim() != new[name].dim() or any(
            a < b for a, b in zip(tensor.shape, new[name].shape, strict=True)
        ):
            raise UserError(
                f"cannot narrow {name} from {tuple(tensor.shape)} to {tuple(new[name].shape)}"
            )
        for dim, (a, b) in enumerate(zip(tensor.shape, new[name].shape, strict=True)):
            if a != b:
                yield name, dim, a, b


def _groups(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs that are no multiple of a smaller one: a concatenation of k groups is k times."""
    return [
        pair for pair in pairs if not any(_multiple(pair, other) for other in pairs if other < pair)
    ]


def _multiple(pair: tuple[int, int], of: tuple[int, int]) -> bool:
    return pair[0] % of[0] == 0 and pair[0] // of[0] * of[1] == pair[1]


def _belongs(cut: Cut, pair: tuple[int, int]) -> bool:
    return _multiple((cut[2], cut[3]), pair)
