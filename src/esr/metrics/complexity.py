"""Parameters, FLOPs, activations and convolutions of a network, by a named counter.

The same network has different "FLOPs" in different years, so a figure is only worth something
with its counter's name, and every `Complexity` carries it. One FLOP is one multiply-accumulate
in all of them.

`ntire2022` (also AIM 2020, NTIRE 2020 and 2023) is the challenge's own: forward hooks on the
convolution, batch norm, linear and ReLU-like modules. What it does is reproduced, not corrected:
it sees no functional call, no sigmoid, GELU or attention product, and its rule for `nn.Linear` is
right for 2-D inputs only (for (N, L, C) tokens it yields N*L*L). `fvcore` is what the editions
since 2024 use for FLOPs, and `exact` counts every convolution and matrix product there is.

Shapes are all that matters, so the network runs on torch's meta device, without arithmetic or
memory; only one that needs real values runs for real.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from esr.errors import UserError
from esr.metrics.operators import OperatorCounter
from esr.metrics.untouched import untouched

COUNTERS = {
    "ntire2022": "hooks",
    "ntire2020": "hooks",
    "ntire2023": "hooks",
    "aim2020": "hooks",
    "fvcore": "fvcore",
    "exact": "exact",
}
"""Known counters and the way each counts FLOPs."""

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
RECTIFIERS = (nn.ReLU, nn.PReLU, nn.ELU, nn.LeakyReLU, nn.ReLU6)


@dataclass(frozen=True)
class Complexity:
    """What a network costs for one RGB image of `size`, by `counter`.

    `params` counts every parameter, as the challenges do; `unused_params` of them take part in
    no operation (`unused` names them), which a published count does not tell.
    """

    params: int
    flops: int
    acts: int
    convs: int
    counter: str
    size: tuple[int, int]
    unused: tuple[str, ...] = ()
    unused_params: int = 0


def complexity(
    net: nn.Module, size: tuple[int, int] = (256, 256), counter: str = "ntire2022"
) -> Complexity:
    """Count the cost of one forward pass in evaluation mode; the network is left as it was.

    `net` takes RGB (1, 3, H, W), here of `size` (height, width); UserError if it cannot take that
    size, or if the counter is none of `COUNTERS`.
    """
    if counter not in COUNTERS:
        raise UserError(f"counter '{counter}' is unknown; there are: {', '.join(COUNTERS)}")
    # In inference mode torch would keep `linear` and the like whole.
    with torch.inference_mode(False), torch.no_grad():
        modules, operators = _count(net, size)
    sizes = {name: parameter.numel() for name, parameter in operators.parameters.items()}
    kind = COUNTERS[counter]
    flops = {"hooks": modules.flops, "fvcore": operators.fvcore, "exact": operators.macs}[kind]
    source = operators if kind == "exact" else modules
    unused = tuple(name for name in sizes if name not in operators.used)
    return Complexity(
        params=sum(sizes.values()),
        flops=flops,
        acts=source.acts,
        convs=source.convs,
        counter=counter,
        size=(size[0], size[1]),
        unused=unused,
        unused_params=sum(sizes[name] for name in unused),
    )


class ModuleCounter:
    """The challenge's counter: totals of forward hooks, one call of a shared module at a time.

    The hooks stay on `net` until the caller takes them off.
    """

    def __init__(self, net: nn.Module) -> None:
        self.flops = self.acts = self.convs = 0
        for module in net.modules():
            for kinds, hook in (
                (CONVOLUTIONS, self._convolution),
                (RECTIFIERS, self._rectifier),
                (nn.BatchNorm2d, self._batch_norm),
                (nn.Linear, self._linear),
            ):
                if isinstance(module, kinds):
                    module.register_forward_hook(hook)

    def _convolution(self, module: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(module, CONVOLUTIONS)
        kernel = math.prod(module.kernel_size) * module.in_channels * module.out_channels
        # The output's positions for a transposed convolution too, as the original has it.
        positions = out.shape[0] * math.prod(out.shape[2:])
        self.flops += kernel // module.groups * positions
        self.acts += out.numel()
        self.convs += 1

    def _rectifier(self, _: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
        self.flops += out.numel()

    def _batch_norm(self, module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        self.flops += inputs[0].numel() * (2 if module.affine else 1)

    def _linear(self, _: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        self.flops += inputs[0].shape[0] * inputs[0].shape[1] * out.shape[1]


def _count(net: nn.Module, size: tuple[int, int]) -> tuple[ModuleCounter, OperatorCounter]:
    try:
        return _run(net, size, on_meta=True)
    except UserError:
        raise
    except Exception:  # it needs real values, or it cannot take this size: the next lines tell
        pass
    try:
        return _run(net, size, on_meta=False)
    except UserError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        height, width = size
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{type(net).__name__} cannot take {width}x{height} pixels: {reason}"
            f"{_advice(net, size)}"
        ) from error


def _run(
    net: nn.Module, size: tuple[int, int], on_meta: bool
) -> tuple[ModuleCounter, OperatorCounter]:
    with _eager(net), untouched(net):
        net.eval()
        parameters: dict[str, Tensor] = dict(net.named_parameters())
        buffers = dict(net.named_buffers())
        first = next((p for p in parameters.values() if p.is_floating_point()), torch.empty(0))
        device = first.device
        if on_meta:
            parameters, buffers, device = _meta(parameters), _meta(buffers), "meta"
        image = torch.zeros(1, 3, *size, device=device, dtype=first.dtype)
        modules, operators = ModuleCounter(net), OperatorCounter(parameters)
        with operators.counting():
            functional_call(net, {**parameters, **buffers}, (image,))
    return modules, operators


def _meta(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: torch.empty_like(tensor, device="meta", requires_grad=False)
        for name, tensor in tensors.items()
    }


def _advice(net: nn.Module, size: tuple[int, int]) -> str:
    """The nearest square that works, found by trying; empty if none within 64 pixels does."""
    for distance in range(1, 65):
        for side in (max(size) + distance, max(size) - distance):
            try:
                _run(net, (side, side), on_meta=True)
            except Exception:  # any failure means that this size does not work either
                continue
            return f" ({side}x{side} is the nearest square it takes)"
    return ""


def _eager(net: nn.Module) -> AbstractContextManager[object]:
    """Keep a compiled network from showing its fused kernels instead of its operators."""
    if any(module._compiled_call_impl is not None for module in net.modules()):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()  # `set_stance` alone takes two seconds to import the compiler
