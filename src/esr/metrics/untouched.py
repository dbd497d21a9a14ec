"""A network is left exactly as it was, whatever it does to itself while it is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

CONTAINERS = (dict, list, set)


@contextmanager
def untouched(*nets: nn.Module) -> Iterator[None]:
    """Put every attribute of every module back at the end: modes, hooks, caches, tensors.

    Many networks keep a plain tensor and move it in `forward` (`self.mean = self.mean.type_as(x)`).
    A run on the meta device would leave one without values there, a run in inference mode one that
    no training can use, and a later run would meet it.

    Lists, dicts and sets inside attributes get their content back. Plain tensors and buffers are
    replaced by copies meanwhile, because they may be written in place. Parameters are not copied,
    so that a large network needs no second one's memory, and nothing is deep-copied, because not
    every network can be (one with a lock, or with a tensor that has a history).
    """
    kept: dict[int, tuple[Any, Any]] = {}
    waiting: list[Any] = [vars(module) for net in nets for module in net.modules()]
    for container in waiting:  # grows on the way
        if id(container) in kept:
            continue
        before = container.copy()
        kept[id(container)] = container, before
        if not before or isinstance(before, set):
            continue
        for key, value in before.items() if isinstance(before, dict) else enumerate(before):
            if isinstance(value, CONTAINERS):
                waiting.append(value)
            elif isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                container[key] = value.detach().clone()
    try:
        yield
    finally:
        for container, before in kept.values():
            if not container and not before:  # a module has a dozen of these, for hooks
                continue
            container.clear()
            if isinstance(container, list):
                container.extend(before)
            else:
                container.update(before)
