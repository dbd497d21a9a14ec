"""A loss is a weighted sum of named terms; every term sees the output, the target and the input.

The terms run in float32 outside autocast, whatever precision the network trains in: variances,
spectra and ratios of distances lose their meaning in bfloat16.
"""

import torch
from torch import Tensor, nn

from esr.errors import UserError
from esr.losses.arguments import Weight


class Loss(nn.Module):
    """Base of the terms; a subclass defines `forward`, and takes `weight` as its last argument."""

    def __init__(self, weight: Weight = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        """Return the unweighted scalar.

        `sr` is the network's output, (N, 3, scale*H, scale*W) in [0, 1], not clamped; `hr` the
        target of the same shape; `lr` the input, (N, 3, H, W).
        """
        raise NotImplementedError

    def bind(self, student: nn.Module) -> None:
        """Look at the network that is to be trained, once, before the optimiser is made.

        Terms that read its features attach themselves here; the others have nothing to do.
        """


class WeightedLoss(nn.Module):
    """The sum of `weight * term` over named terms.

    After each call `last` holds every term's unweighted value, detached, for the log.

    Raises:
        UserError: there are no terms.
    """

    def __init__(self, terms: dict[str, Loss]):
        super().__init__()
        if not terms:
            raise UserError("the loss has no terms; name at least one, as in loss=[l1]")
        self.terms = nn.ModuleDict(terms)
        self.last: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Loss:
        return self.terms[name]  # type: ignore[return-value]

    def bind(self, student: nn.Module) -> None:
        for name in self.terms:
            self[name].bind(student)

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        """Return the sum as a scalar.

        Raises:
            UserError: output and target differ in shape.
        """
        if sr.shape != hr.shape:
            raise UserError(
                f"the network's output is {tuple(sr.shape)}, the target {tuple(hr.shape)}: "
                "scale of model and data must agree (set scale=...)"
            )
        with torch.autocast(sr.device.type, enabled=False):
            sr, hr, lr = _at_least_float32(sr), _at_least_float32(hr), _at_least_float32(lr)
            values = {name: self[name](sr, hr, lr) for name in self.terms}
            shares = [self[name].weight * value for name, value in values.items()]
            total = torch.stack(shares).sum()
        self.last = {name: value.detach() for name, value in values.items()}
        return total


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
