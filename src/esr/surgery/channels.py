"""Which slices of which tensors belong to one channel: torch-pruning's dependency graph, in units.

A channel is written by one convolution, scaled by a norm, split, concatenated, added to others and
read by the next convolutions; all these slices go or stay together. torch-pruning (Fang et al.,
DepGraph, CVPR 2023) traces this through autograd. Here its groups become `Segment`s: channels
with the same role, each with the rows that it owns in every tensor. Removing some of each segment
leaves tensors of a plain smaller network.

torch-pruning has no rule for `PixelShuffle`, in which r*r channels become one; it is added here.
"""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning._helpers import _HybridIndex as Index

Slot = tuple[str, int]
"""A tensor of the state dict and one of its dimensions."""

Element = tuple[Any, Any, int]
"""A node of torch-pruning's graph, a function that prunes its inputs or outputs, and an index."""

LOST = "they are rearranged in a way that torch-pruning cannot follow"

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""What computes new channels out of others."""


@dataclass(frozen=True)
class Segment:
    """Channels which have the same role everywhere and can be exchanged for one another."""

    # For each slot the indices that the channels own, int64 (size, rows per channel).
    rows: dict[Slot, torch.Tensor] = field(repr=False)
    writers: tuple[str, ...]  # the modules that compute them (convolutions and linear layers)
    fixed: str = ""  # why no channel may go; empty if they may

    @property
    def size(self) -> int:
        return len(next(iter(self.rows.values())))


def trace(net: nn.Module) -> list[Segment]:
    """The segments of a plain float32 network on the CPU, in the order of its state dict.

    It takes RGB (1, 3, H, W) and is left in eval mode with gradients for all parameters.
    """
    least = getattr(net, "min_size", 1)
    # Sides that are no likely numbers of channels, so that torch-pruning cannot mix them up.
    size = (max(47, least), max(53, least))
    net.requires_grad_(True)
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        # As a tuple: torch-pruning would unpack a tensor into images without a batch.
        graph = _Graph(size).build_dependency(net, (torch.rand(1, 3, *size),))
    _teach_pixel_shuffle(graph)
    return _segments(net, graph)


class _Graph(tp.DependencyGraph):
    """Knows from autograd how many channels an operation has made, where upstream guesses."""

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        self.size = size

    def get_out_channels(self, module_or_node: Any) -> int | None:
        """As upstream's; else the channels of the only result, unless its channels come last."""
        channels = super().get_out_channels(module_or_node)
        made = getattr(getattr(module_or_node, "grad_fn", None), "_input_metadata", ())
        if channels is not None or len(made) != 1 or len(made[0].shape) != 4:
            return channels
        channels_last = tuple(made[0].shape[1:3]) == self.size
        return None if channels_last else int(made[0].shape[1])


def gone(segments: Sequence[Segment], kept: Sequence[torch.Tensor]) -> dict[Slot, torch.Tensor]:
    """The indices that go from every tensor when of each segment the positions `kept` stay."""
    found: dict[Slot, list[torch.Tensor]] = defaultdict(list)
    for segment, stay in zip(segments, kept, strict=True):
        lost = others(stay, segment.size)
        for slot, rows in segment.rows.items():
            found[slot].append(rows[lost].flatten())
    return {slot: torch.cat(rows) for slot, rows in found.items()}


def others(rows: torch.Tensor | int, size: int) -> torch.Tensor:
    """The indices below `size` that are not among `rows`."""
    stay = torch.ones(size, dtype=torch.bool)
    stay[rows] = False
    return stay.nonzero().flatten()


def computes(net: nn.Module, slot: Slot) -> bool:
    """Whether a slot computes its channels: filters and their biases."""
    name, dim = slot
    module = net.get_submodule(owner(name))
    transposed = isinstance(module, nn.ConvTranspose2d)
    return isinstance(module, LAYERS) and (name.endswith("bias") or dim == int(transposed))


# A weight-normed layer has, in place of its weight, a direction of each filter and its length.
PARTS = ".parametrizations."
LENGTH, DIRECTION = "weight.original0", "weight.original1"


def owner(tensor: str) -> str:
    """The path of the module that a tensor of the state dict belongs to."""
    return tensor.partition(PARTS)[0] if PARTS in tensor else tensor.rpartition(".")[0]


def is_weight(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor is the weight of a layer, or the directions of its filters."""
    return name.endswith(("weight", DIRECTION)) and len(shape) > 1


def can_be_zero(slot: Slot) -> bool:
    """Whether a slot can be filled with zeros: all but directions, whose lengths are enough."""
    name, dim = slot
    return not (name.endswith(DIRECTION) and dim == 0)


def lengths(directions: str) -> str:
    """The name of the filters' lengths, given that of their directions."""
    return directions.removesuffix(DIRECTION) + LENGTH


class _Units:
    """Disjoint sets of elements (node, pruning function, index): one set is one channel."""

    def __init__(self) -> None:
        self.parents: dict[Element, Element] = {}
        self.lost: list[Element] = []  # what becomes of their channels cannot be told

    def find(self, element: Element) -> Element:
        """The set's representative; an element that is not known yet is a set of its own."""
        parents = self.parents
        root = element
        while (parent := parents.setdefault(root, root)) != root:
            root = parent
        while parents[element] != root:
            parents[element], element = root, parents[element]
        return root

    def unite(self, a: Element, b: Element) -> None:
        """Make the sets of both one."""
        self.parents[self.find(a)] = self.find(b)


def _segments(net: nn.Module, graph: Any) -> list[Segment]:
    shapes = {name: tuple(t.shape) for name, t in net.state_dict().items()}
    names = {module: name for name, module in net.named_modules()}
    units = _closure(graph, limit=4 * max(max(shape, default=1) for shape in shapes.values()))
    members: dict[Element, list[tuple[str, int, int]]] = defaultdict(list)
    reasons = {units.find(element): LOST for element in units.lost}
    for element in list(units.parents):
        (node, handler, index), root = element, units.find(element)
        if node.type == graph.ops.OPTYPE.OUTPUT:
            reasons[root] = "they are the pixels of the image"
        for name, dim in _slots(graph, node, handler, names, shapes):
            if index < shapes[name][dim]:
                members[root].append((name, dim, index))
            else:
                reasons[root] = LOST
    roles: dict[Any, list[dict[Slot, list[int]]]] = defaultdict(list)
    for root, slices in members.items():
        rows: dict[Slot, list[int]] = defaultdict(list)
        for name, dim, index in sorted(set(slices)):
            rows[name, dim].append(index)
        role = (*((slot, len(rows[slot])) for slot in sorted(rows)), reasons.get(root, ""))
        roles[role].append(rows)
    order = {name: i for i, name in enumerate(shapes)}
    found: list[Segment] = []
    for (*_, fixed), channels in roles.items():
        channels.sort(key=lambda rows: sorted(rows.items()))
        owned = {slot: torch.tensor([c[slot] for c in channels]) for slot in sorted(channels[0])}
        writers = {owner(slot[0]) for slot in owned if computes(net, slot)}
        found.append(Segment(owned, tuple(sorted(writers)), fixed))
    return sorted(
        found, key=lambda s: min((order[n], int(r.min())) for (n, _), r in s.rows.items())
    )


def _closure(graph: Any, limit: int) -> _Units:
    """Follow every output channel of every layer through all dependencies that it triggers.

    torch-pruning's own `get_pruning_group` does this for all channels of a layer at once and
    keeps one of several that meet in the same place, which is not enough to tell them apart.

    Attention flattens images, and each channel becomes thousands of pixels: following those takes
    minutes and finds nothing, so what leads to an index of `limit` or more counts as lost.
    """
    units, seen, todo = _Units(), defaultdict(set), []
    for module, node in graph.module2node.items():
        if isinstance(module, LAYERS):
            pruner = graph.get_pruner_of_module(module)
            outputs = set(range(pruner.get_out_channels(module)))
            todo.append((node, pruner.prune_out_channels, outputs))
    while todo:
        node, function, indices = todo.pop()
        new = indices - seen[node, function]
        seen[node, function] |= new
        for index in new:
            units.find((node, function, index))
        for dep in node.dependencies if new else ():
            if not dep.is_triggered_by(function):
                continue
            last = _mapped(dep, [Index(max(new), max(new))])
            if last and max(last)[0] >= limit:
                units.lost += [(node, function, index) for index in new]
                continue
            mapped = _mapped(dep, [Index(i, i) for i in sorted(new)])
            for index, origin in mapped:
                units.unite((dep.target, dep.handler, index), (node, function, origin))
            todo.append((dep.target, dep.handler, {index for index, _ in mapped}))
    return units


def _mapped(dep: Any, indices: list[Any]) -> list[Any]:
    """Where a dependency leads: indices at its target, each with the one it came from."""
    for mapping in dep.index_mapping:
        indices = mapping(indices) if mapping is not None else indices
    return indices


def _slots(
    graph: Any, node: Any, handler: Any, names: dict[Any, str], shapes: dict[str, tuple[int, ...]]
) -> list[Slot]:
    """The slots that a pruning function shortens."""
    module = node.module
    if isinstance(module, nn.Parameter):
        return [(graph._param_to_name[module], node.pruning_dim)]
    if module not in names:
        return []
    prefix = f"{names[module]}." if names[module] else ""
    return [
        slot
        for tensor, dim in _dims(module, graph.is_out_channel_pruning_fn(handler)).items()
        for slot in _stored(prefix + tensor, dim, shapes)
    ]


def _dims(module: nn.Module, out: bool) -> dict[str, int]:
    """The dimension of each tensor of a layer that runs over its outputs, or over its inputs."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        if module.groups > 1 and module.groups == module.out_channels:
            return {"weight": 0, "bias": 0}
        side = int(out) if isinstance(module, nn.ConvTranspose2d) else int(not out)
        return {"weight": side, "bias": 0} if out else {"weight": side}
    if isinstance(module, nn.Linear):
        return {"weight": 0, "bias": 0} if out else {"weight": 1}
    tensors = {name: t for name, t in module.state_dict().items() if "." not in name}
    return {name: 0 for name, t in tensors.items() if t.dim() == 1 and len(t) > 1}


def _stored(name: str, dim: int, shapes: dict[str, tuple[int, ...]]) -> list[Slot]:
    """The slots under which the state dict has a tensor: two for a weight-normed convolution."""
    if name in shapes:
        return [(name, dim)]
    module = name.removesuffix(".weight")
    parts = [f"{module}{PARTS}{part}" for part in (LENGTH, DIRECTION)]
    return [(part, dim) for part in parts if part in shapes and shapes[part][dim] > 1]


def _teach_pixel_shuffle(graph: Any) -> None:
    """Tell the graph which channels a pixel shuffle makes of which: one of `factor` squared."""
    for node in graph.module2node.values():
        factor = getattr(node.grad_fn, "_saved_upscale_factor", None)
        if factor is None or "PixelShuffle" not in node.grad_fn.name():
            continue
        for source in node.inputs:
            for dep in source.dependencies:
                if dep.target is node:
                    dep.index_mapping[1] = partial(_shuffled, factor**2)
            for dep in node.dependencies:
                if dep.target is source:
                    dep.index_mapping[0] = partial(_unshuffled, factor**2)


def _shuffled(many: int, indices: list[Index]) -> list[Index]:
    return [Index(i.idx // many, i.root_idx) for i in indices]


def _unshuffled(many: int, indices: list[Index]) -> list[Index]:
    return [Index(i.idx * many + k, i.root_idx) for i in indices for k in range(many)]
