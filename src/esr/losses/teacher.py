"""What distillation needs around the networks: a frozen teacher, and features read by name."""

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from esr.errors import UserError
from esr.losses.arguments import Precision, TeacherSource

PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


class Features:
    """The outputs of named modules of a network, kept from its last forward pass.

    The hooks stay on the network. With `training_only` nothing is kept in evaluation mode or
    without gradients.
    """

    def __init__(
        self,
        net: nn.Module,
        names: Iterable[str],  # as in `net.named_modules()`, such as "blocks.3"
        training_only: bool,
        role: str = "network",  # what messages call it
    ):
        modules = dict(net.named_modules())
        self.values: dict[str, Tensor] = {}
        self.training_only = training_only
        for name in names:
            if not name or name not in modules:
                known = [key for key in modules if key and key.count(".") <= 1]
                raise UserError(
                    f"the {role} ({type(net).__name__}) has no module {name!r}; it has: "
                    f"{', '.join(known)}"
                )
            # A method, not a closure: in a copy of the network it keeps for the copied features.
            modules[name].register_forward_hook(partial(self._keep, name))

    def _keep(self, name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        if not self.training_only or (module.training and torch.is_grad_enabled()):
            self.values[name] = output

    def take(self) -> dict[str, Tensor]:
        """Return name -> features and forget them."""
        values, self.values = self.values, {}
        return values

    def __deepcopy__(self, memo: dict[int, Any]) -> "Features":
        """A copy of the network keeps its own features and starts without any."""
        twin = copy.copy(self)
        twin.values = {}
        memo[id(self)] = twin
        return twin


class Teacher:
    """A frozen network: evaluation mode, no gradients, never optimised, copied or saved.

    It is no `nn.Module`, so that the loss which holds it does not own its weights; it follows the
    batches to their device, and a copy of the loss (as an average of weights makes) shares it.
    Whatever its own precision, its results are float32.
    """

    net: nn.Module  # from `make` on
    features: Features

    def __init__(self, source: TeacherSource, precision: Precision = "32"):
        if precision not in PRECISIONS:
            raise UserError(f"teacher precision is one of {', '.join(PRECISIONS)}: {precision!r}")
        self._source, self.dtype = source, PRECISIONS[precision]
        self._device: torch.device | None = None

    def make(self, taps: Iterable[str]) -> None:
        """Make the network ready; the outputs of the modules `taps` are features."""
        net = self._source if isinstance(self._source, nn.Module) else self._source()
        self.net = net.eval().requires_grad_(False)
        self.features = Features(self.net, taps, training_only=False, role="teacher")
        self._device = None

    @torch.no_grad()
    def __call__(self, lr: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Super-resolve (N, 3, H, W): the output and the tapped features, detached, in float32."""
        if not hasattr(self, "net"):
            raise RuntimeError("call bind(student) before the first step")
        if self._device != lr.device:
            self.net.to(lr.device)
            self._device = lr.device
        with torch.autocast(lr.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            sr = self.net(lr)
        dtype = torch.promote_types(lr.dtype, torch.float32)
        return sr.to(dtype), {name: x.to(dtype) for name, x in self.features.take().items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        return self


@torch.no_grad()
def feature_shapes(net: nn.Module, features: Features, size: int = 32) -> dict[str, torch.Size]:
    """Shapes (C, H, W) of the features for an input of `size` pixels; the net is left as it was."""
    side = max(size, getattr(net, "min_size", 1))
    parameter = next(net.parameters())
    training, only = net.training, features.training_only
    features.training_only = False
    try:
        net.eval()(torch.zeros(1, 3, side, side, dtype=parameter.dtype, device=parameter.device))
        return {name: value.shape[1:] for name, value in features.take().items()}
    finally:
        net.train(training)
        features.training_only = only
