"""Which slices of which tensors belong to one channel: torch-pruning's dependency graph, in units.

A channel is written by one convolution, scaled by a norm, split, concatenated, added to others and
read by the next convolutions; all these slices go or stay together. torch-pruning (Fang et al.,
DepGraph, CVPR 2023) traces this through autograd. Here its groups become `Segment`s: channels
with the same role, each with the rows that it owns in every tensor. Removing some of each segment
leaves tensors of a plain smaller network.

torch-pruning has no rule for `PixelShuffle`, in which r*r channels become one; it is added here.
"""

import importlib
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from esr.errors import UserError

Slot = tuple[str, int]
"""A tensor of the state dict and one of its dimensions."""

Element = tuple[Any, Any, int]
"""A node of torch-pruning's graph, a function that prunes its inputs or outputs, and an index."""

LOST = "they are rearranged in a way that torch-pruning cannot follow"

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""What computes new channels out of others."""


@dataclass(frozen=True)
class Segment:
    """Channels which have the same role everywhere and can be exchanged for one another.

    Args:
        rows: for each slot the indices that the channels own, int64 (size, rows per channel).
        writers: the modules that compute these channels (convolutions and linear layers).
        fixed: why no channel may go; empty if they may.
    """

    rows: dict[Slot, torch.Tensor] = field(repr=False)
    writers: tuple[str, ...]
    fixed: str = ""

    @property
    def size(self) -> int:
        """How many channels these are."""
        return len(next(iter(self.rows.values())))


def trace(net: nn.Module) -> list[Segment]:
    """The segments of a plain float32 network on the CPU, in the order of its state dict.

    Args:
        net: takes RGB (1, 3, H, W); left in eval mode.

    Raises:
        UserError: torch-pruning is not installed.
    """
    tp = _torch_pruning()
    least = getattr(net, "min_size", 1)
    # Sides that are no likely numbers of channels, so that torch-pruning cannot mix them up.
    size = (max(47, least), max(53, least))
    modes = [p.requires_grad for p in net.parameters()]
    net.requires_grad_(True)
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph = _graph(tp, net, size)
    finally:
        for parameter, mode in zip(net.parameters(), modes, strict=True):
            parameter.requires_grad_(mode)
    _teach_pixel_shuffle(graph)
    return _segments(net, graph)


def _graph(tp: Any, net: nn.Module, size: tuple[int, int]) -> Any:
    class Graph(tp.DependencyGraph):
        """Knows from autograd how many channels an operation has made, where upstream guesses."""

        def get_out_channels(self, module_or_node: Any) -> int | None:
            channels = super().get_out_channels(module_or_node)
            made = getattr(getattr(module_or_node, "grad_fn", None), "_input_metadata", ())
            if channels is not None or len(made) != 1 or len(made[0].shape) != 4:
                return channels
            channels_last = tuple(made[0].shape[1:3]) == size
            return None if channels_last else int(made[0].shape[1])

    # As a tuple: torch-pruning would unpack a tensor, and the network see an image without a batch.
    return Graph().build_dependency(net, (torch.rand(1, 3, *size),))


def written(segment: Segment, net: nn.Module) -> list[Slot]:
    """The slots of a segment that compute its channels: filters and their biases."""
    return [
        (name, dim)
        for name, dim in segment.rows
        if _owner(name) in segment.writers and (name.endswith("bias") or _writes(net, name, dim))
    ]


def _torch_pruning() -> Any:
    try:
        return importlib.import_module("torch_pruning")
    except ImportError:
        raise UserError(
            "pruning needs torch-pruning, which is not installed: pip install 'esr[prune]'"
        ) from None


class _Units:
    """Disjoint sets of elements (node, pruning function, index): one set is one channel."""

    def __init__(self) -> None:
        self.parents: dict[Element, Element] = {}
        self.lost: list[Element] = []

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

    def lose(self, element: Element) -> None:
        """Note that what becomes of a channel cannot be told."""
        self.lost.append(self.find(element))


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
    found = [_segment(role[-1], channels, net) for role, channels in roles.items()]
    return sorted(
        found, key=lambda s: min((order[n], int(r.min())) for (n, _), r in s.rows.items())
    )


def _segment(fixed: str, channels: list[dict[Slot, list[int]]], net: nn.Module) -> Segment:
    channels = sorted(channels, key=lambda rows: sorted(rows.items()))
    rows = {slot: torch.tensor([c[slot] for c in channels]) for slot in sorted(channels[0])}
    writers = {_owner(name) for name, dim in rows if _writes(net, name, dim)}
    return Segment(rows, tuple(sorted(writers)), fixed)


def _owner(tensor: str) -> str:
    return (
        tensor.partition(".parametrizations.")[0]
        if ".param" in tensor
        else tensor.rpartition(".")[0]
    )


def _writes(net: nn.Module, name: str, dim: int) -> bool:
    module = net.get_submodule(_owner(name))
    if not isinstance(module, LAYERS) or name.endswith("bias"):
        return False
    return dim == int(isinstance(module, nn.ConvTranspose2d))


def _closure(graph: Any, limit: int) -> _Units:
    """Follow every output channel of every layer through all dependencies that it triggers.

    torch-pruning's own `get_pruning_group` does this for all channels of a layer at once and
    keeps one of several that meet in the same place, which is not enough to tell them apart.

    Attention flattens images, and each channel becomes thousands of pixels: following those takes
    minutes and finds nothing, so what leads to an index of `limit` or more counts as lost.
    """
    index_type = importlib.import_module("torch_pruning")._helpers._HybridIndex
    units, seen = _Units(), defaultdict(set)
    todo = []
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
            last = _mapped(dep, [index_type(max(new), max(new))])
            if last and max(last)[0] >= limit:
                for index in new:
                    units.lose((node, function, index))
                continue
            mapped = _mapped(dep, [index_type(i, i) for i in sorted(new)])
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
    """The tensors, with their dimension, that a pruning function shortens."""
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
    module, _, tensor = name.rpartition(".")
    parts = [f"{module}.parametrizations.{tensor}.original{i}" for i in (0, 1)]
    return [(part, dim) for part in parts if part in shapes and shapes[part][dim] > 1]


class _Shuffled:
    """torch-pruning's index mapping over a pixel shuffle: `factor` channels before, one after."""

    def __init__(self, factor: int, forward: bool):
        self.factor, self.forward = factor, forward

    def __call__(self, indices: list[Any]) -> list[Any]:
        if self.forward:
            return [type(i)(i.idx // self.factor, i.root_idx) for i in indices]
        return [
            type(i)(i.idx * self.factor + k, i.root_idx)
            for i in indices
            for k in range(self.factor)
        ]


def _teach_pixel_shuffle(graph: Any) -> None:
    for node in graph.module2node.values():
        factor = getattr(node.grad_fn, "_saved_upscale_factor", None)
        if factor is None or "PixelShuffle" not in node.grad_fn.name():
            continue
        for source in node.inputs:
            for dep in source.dependencies:
                if dep.target is node:
                    dep.index_mapping[1] = _Shuffled(factor**2, forward=True)
            for dep in node.dependencies:
                if dep.target is source:
                    dep.index_mapping[0] = _Shuffled(factor**2, forward=False)
