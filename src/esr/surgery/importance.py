"""What a channel is worth: from its weights, from gradients, or by leaving it out.

Every measure gives each segment of the dependency graph one score a channel; the lowest go first.
`comparable` says whether scores of different layers mean the same, as losses do; the others are
divided by their layer's mean before layers are compared.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from esr.errors import UserError
from esr.surgery.calibration import Batches, squared_error
from esr.surgery.channels import LAYERS, Segment, Slot, computes, others, owner
from esr.surgery.rebuild import silence

Scores = list[torch.Tensor]
"""For each segment one score a channel, float64."""


class Importance(Protocol):
    """Scores the channels of a network."""

    comparable: bool = False
    needs_patches: bool = False

    def __call__(self, net: nn.Module, segments: Sequence[Segment], patches: Batches) -> Scores:
        """The scores; `net` is a plain float32 network that may be changed and must be restored."""
        ...


class Magnitude(Importance):
    """The norm of all weights that a channel owns, by writing or being read (group norm)."""

    def __init__(self, p: Literal[1, 2] = 2):
        if p not in (1, 2):
            raise UserError(f"importance p={p}: choose 1 (sum of magnitudes) or 2 (Euclidean)")
        self.p = p

    def __call__(self, net: nn.Module, segments: Sequence[Segment], patches: Batches) -> Scores:
        powers = {k: v.double().abs() ** self.p for k, v in net.state_dict().items()}
        return [_sums(s, self._slots(net, s), powers) ** (1 / self.p) for s in segments]

    def _slots(self, net: nn.Module, segment: Segment) -> list[Slot]:
        return list(segment.rows)


class FilterNorm(Magnitude):
    """The Euclidean norm of the filters that compute a channel (soft filter pruning's criterion).

    Unlike `Magnitude` it does not look at who reads the channel, so filters that soft pruning set
    to zero score zero.
    """

    def __init__(self) -> None:
        super().__init__(p=2)

    def _slots(self, net: nn.Module, segment: Segment) -> list[Slot]:
        return [slot for slot in segment.rows if computes(net, slot)]


class Random(Importance):
    """The baseline that every measure must beat."""

    comparable = True

    def __init__(self, seed: int = 0):
        self.seed = seed

    def __call__(self, net: nn.Module, segments: Sequence[Segment], patches: Batches) -> Scores:
        random = torch.Generator().manual_seed(self.seed)
        return [torch.rand(s.size, generator=random, dtype=torch.float64) for s in segments]


class BatchNormScale(Importance):
    """The factor of the batch norm behind a channel (network slimming, Liu et al., ICCV 2017)."""

    comparable = True

    def __call__(self, net: nn.Module, segments: Sequence[Segment], patches: Batches) -> Scores:
        norms = {
            f"{name}.weight": module.weight.detach().double().abs()
            for name, module in net.named_modules()
            if isinstance(module, nn.BatchNorm2d) and module.affine
        }
        if not norms:
            raise UserError(
                f"{type(net).__name__} has no batch norm to read scales from: choose another "
                "importance, such as magnitude or taylor"
            )
        scores = []
        for segment in segments:
            slots = [slot for slot in segment.rows if slot[0] in norms]
            indispensable = torch.full((segment.size,), float("inf"), dtype=torch.float64)
            scores.append(_sums(segment, slots, norms) if slots else indispensable)
        return scores


class Taylor(Importance):
    """First-order change of the loss when a channel is left out (Molchanov et al., CVPR 2019).

    The sum of weight times gradient over everything that reads the channel is the derivative by a
    factor in front of it; its root mean square over single patches is the score.
    """

    comparable = True
    needs_patches = True

    def __call__(self, net: nn.Module, segments: Sequence[Segment], patches: Batches) -> Scores:
        squares = [torch.zeros(s.size, dtype=torch.float64) for s in segments]
        named = dict(net.requires_grad_(True).named_parameters())
        readers = [_readers(named, segment) for segment in segments]
        images = list(_single(patches))
        for lr, hr in images:
            with torch.enable_grad():
                loss = F.l1_loss(net(lr), hr)
            grads = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
            products = {
                name: (p.detach() * g).double()
                for (name, p), g in zip(named.items(), grads, strict=True)
            }
            for square, segment, slots in zip(squares, segments, readers, strict=True):
                square += _sums(segment, slots, products) ** 2
        return [(square / len(images)).sqrt() for square in squares]


class Activation(Importance):
    """Mean magnitude of what a channel's writers put out on real patches."""

    needs_patches = True

    def __call__(self, net: nn.Module, segments: Sequence[Segment], patches: Batches) -> Scores:
        means: dict[nn.Module, torch.Tensor] = {}

        def add(module: nn.Module, _: object, output: torch.Tensor) -> None:
            channels = output.movedim(-1 if isinstance(module, nn.Linear) else 1, 0).flatten(1)
            found = channels.double().abs().mean(1)
            means[module] = means[module] + found if module in means else found

        layers = [module for module in net.modules() if isinstance(module, LAYERS)]
        handles = [layer.register_forward_hook(add) for layer in layers]
        try:
            with torch.no_grad():
                for lr, _ in _single(patches):
                    net(lr)
        finally:
            for handle in handles:
                handle.remove()
        scores = []
        for segment in segments:
            score = torch.zeros(segment.size, dtype=torch.float64)
            written = {owner(s[0]): rows for s, rows in segment.rows.items() if computes(net, s)}
            for path, rows in written.items():
                writer = net.get_submodule(path)
                score += means[writer][rows].sum(1) if writer in means else 0
            scores.append(score)
        return scores


class LossChange(Importance):
    """How much worse the images get without a channel, tried one channel at a time.

    The measure that is about super-resolution itself: PSNR's loss on calibration patches, all
    consequences included. It costs one pass over the patches a channel.
    """

    comparable = True
    needs_patches = True

    def __call__(self, net: nn.Module, segments: Sequence[Segment], patches: Batches) -> Scores:
        state = net.state_dict()
        with torch.no_grad():
            base = squared_error(net, patches)
            scores = []
            for segment in segments:
                score = torch.full((segment.size,), float("inf"), dtype=torch.float64)
                for channel in range(0 if segment.fixed else segment.size):
                    with silenced(state, segment, channel):
                        score[channel] = squared_error(net, patches) - base
                scores.append(score)
        return scores


@contextmanager
def silenced(state: dict[str, torch.Tensor], segment: Segment, channel: int) -> Iterator[None]:
    """Everything that a channel owns is zero while inside."""
    before = {name: tensor.clone() for name, tensor in state.items()}
    after = silence(before, [segment], [others(channel, segment.size)])
    try:
        for name, tensor in state.items():
            tensor.copy_(after[name])
        yield
    finally:
        for name, tensor in state.items():
            tensor.copy_(before[name])


def normalised(scores: Scores, comparable: bool) -> Scores:
    """Scores that can be compared between segments, none of them infinite or negative."""
    result = []
    for score in scores:
        finite = score[torch.isfinite(score)]
        mean = float(finite.mean()) if len(finite) else 1.0
        score = score if comparable else score / max(mean, 1e-30)
        result.append(score.clamp(min=0).nan_to_num(posinf=1e30))
    return result


def _sums(
    segment: Segment, slots: Iterable[Slot], values: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """For each channel the sum of all that it owns in some slots."""
    total = torch.zeros(segment.size, dtype=torch.float64)
    for name, dim in slots:
        tensor = values[name]
        rest = [d for d in range(tensor.dim()) if d != dim]
        sums = tensor.sum(rest) if rest else tensor  # an empty list would mean all
        total += sums[segment.rows[name, dim]].sum(1)
    return total


def _readers(named: Mapping[str, torch.Tensor], segment: Segment) -> list[Slot]:
    """The slots through which the channel is read; where there are none, those that write it."""
    slots = [slot for slot in segment.rows if slot[0] in named]
    # A weight-normed writer counts, too: its lengths are factors in front of the channel.
    reading = [(n, d) for n, d in slots if n.rpartition(".")[0] not in segment.writers or d == 1]
    return [slot for slot in reading if named[slot[0]].dim() > 1] or slots


def _single(patches: Batches) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in patches:
        yield from zip(batch["lr"].split(1), batch["hr"].split(1), strict=True)
