"""Count the operators that torch executes, below modules and functions alike.

A `TorchDispatchMode` sees `F.conv2d`, `x @ y` and `einsum` as well as the modules, which is what
hooks on modules miss. It keeps two sums: the true multiply-accumulates, and the figure fvcore
0.1.5 gives for the same network. fvcore reads a trace in which composite functions are still
whole, so the two functions that torch takes apart before dispatch are caught one level above.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Formula = Callable[[tuple[Any, ...], Any], int]
"""From an operator's arguments and its output to what it costs."""


def _convolution(args: tuple[Any, ...], out: Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    return x.shape[0] * weight.numel() * math.prod((x if transposed else out).shape[2:])


def _product(first: int) -> Formula:
    """Each output is a sum over the last dimension of the argument `first`."""
    return lambda args, out: out.numel() * args[first].shape[-1]


PRODUCTS: dict[str, Formula] = {
    "aten::convolution": _convolution,
    "aten::mm": _product(0),
    "aten::addmm": _product(1),
    "aten::bmm": _product(0),
    "aten::baddbmm": _product(1),
    "aten::mv": _product(0),
    "aten::addmv": _product(1),
    "aten::dot": _product(0),
}
"""Multiply-accumulates of each operator that has any, besides attention."""


def _attention(args: tuple[Any, ...], out: Any) -> int:
    """Of any of torch's kernels: for queries (..., L, E), keys (..., S, E), values (..., S, V)."""
    query, key, value = (tensor.shape for tensor in args[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _norm(weight: int) -> Formula:
    return lambda args, out: args[0].numel() * (5 if args[weight] is not None else 4)


def _batch_norm(args: tuple[Any, ...], out: Any) -> int:
    return args[0].numel() * (2 if args[1] is not None else 1)


def _batch_norm_of(training: int) -> Formula:
    return lambda args, out: (_norm(1) if args[training] else _batch_norm)(args, out)


def _outputs(each: int) -> Formula:
    return lambda args, out: out.numel() * each


FVCORE_PRODUCTS = {"aten::convolution", "aten::mm", "aten::addmm", "aten::bmm"}
"""The products that fvcore knows."""

FVCORE: dict[str, Formula] = {
    "aten::_native_batch_norm_legit_no_training": _batch_norm,
    "aten::native_batch_norm": _batch_norm_of(5),
    "aten::cudnn_batch_norm": _batch_norm_of(5),
    "aten::miopen_batch_norm": _batch_norm_of(5),
    "aten::_native_batch_norm_legit": _norm(1),
    "aten::native_layer_norm": _norm(2),
    "aten::native_group_norm": _norm(1),
    "aten::upsample_nearest2d": _outputs(1),
    "aten::upsample_bilinear2d": _outputs(4),
    "aten::grid_sampler_2d": _outputs(4),
}
"""What fvcore adds for each other operator it knows; all that are in neither are 0 there."""


class OperatorCounter(TorchDispatchMode):
    """Totals of the operators executed inside `counting()`."""

    def __init__(self, parameters: Mapping[str, Tensor]):
        super().__init__()
        self.macs = self.fvcore = self.acts = self.convs = 0
        self.used: set[str] = set()  # names of the parameters that an operator takes
        self.opaque = False  # inside a function that fvcore does not look into
        self.parameters = parameters
        self._names = {id(tensor): name for name, tensor in parameters.items()}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is executed inside."""
        with self, _Functions(self):
            yield

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.add(func._schema.name, args, out)
        return out

    def add(self, name: str, args: tuple[Any, ...], out: Any) -> None:
        """Count one execution of the operator `name`."""
        for value in args:
            for tensor in value if isinstance(value, list) else (value,):  # `cat` takes a list
                if id(tensor) in self._names:
                    self.used.add(self._names[id(tensor)])
        attention = name.startswith("aten::_scaled_dot_product")
        if attention or name in PRODUCTS:
            macs = (_attention if attention else PRODUCTS[name])(args, out)
            self.macs += macs
            self.acts += (out[0] if attention else out).numel()
            self.convs += name == "aten::convolution"
            if not self.opaque and name in FVCORE_PRODUCTS:
                self.fvcore += macs
        elif not self.opaque and name in FVCORE:
            self.fvcore += FVCORE[name](args, out)


class _Functions(TorchFunctionMode):
    """The functions that fvcore knows, or does not know, as a whole."""

    def __init__(self, counter: OperatorCounter):
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.adaptive_avg_pool2d:
            self.counter.fvcore += (args[0] if args else kwargs["input"]).numel()
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        self.counter.opaque = True
        try:
            return func(*args, **kwargs)
        finally:
            self.counter.opaque = False
