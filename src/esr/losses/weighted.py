"""A loss is a weighted sum of named terms; every term sees the output, the target and the input.

The terms run in float32 outside autocast, whatever precision the network trains in: variances,
spectra and ratios of distances lose their meaning in bfloat16.
"""

import torch
from torch import nn

from esr.errors import UserError


class Loss(nn.Module):
    """Base of the terms; a subclass defines `forward` and takes its own arguments before `weight`.

    Args:
        weight: factor of this term in the sum.
    """

    needs_lr: bool = False
    """Whether `forward` reads the low-resolution input."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, sr: torch.Tensor, hr: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """Return the unweighted scalar.

        Args:
            sr: output of the network, (N, 3, scale*H, scale*W) in [0, 1], not clamped.
            hr: target of the same shape.
            lr: input of the network, (N, 3, H, W).
        """
        raise NotImplementedError

    def bind(self, student: nn.Module) -> None:
        """Look at the network that is to be trained, once, before the optimiser is made.

        Terms that read its features attach themselves here; the others have nothing to do.
        """


class WeightedLoss(nn.Module):
    """The sum of `weight * term` over named terms.

    After each call `last` holds every term's unweighted value and `contributions` its weighted
    share of the sum, detached, for the log.

    Args:
        terms: name -> term. An empty mapping is an error.
    """

    def __init__(self, terms: dict[str, Loss]):
        super().__init__()
        if not terms:
            raise UserError("the loss has no terms; name at least one, as in loss=[l1]")
        self.terms = nn.ModuleDict(terms)
        self.last: dict[str, torch.Tensor] = {}
        self.contributions: dict[str, torch.Tensor] = {}

    def __getitem__(self, name: str) -> Loss:
        return self.terms[name]  # type: ignore[return-value]

    @property
    def needs_lr(self) -> list[str]:
        """Names of the terms that read the low-resolution input."""
        return [name for name in self.terms if self[name].needs_lr]

    def bind(self, student: nn.Module) -> None:
        """Show every term the network that is to be trained."""
        for name in self.terms:
            self[name].bind(student)

    def forward(
        self, sr: torch.Tensor, hr: torch.Tensor, lr: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the sum as a scalar; see `Loss.forward` for the arguments.

        Raises:
            UserError: output and target differ in shape, or a term needs `lr` and there is none.
        """
        if sr.shape != hr.shape:
            raise UserError(
                f"the network's output is {tuple(sr.shape)}, the target {tuple(hr.shape)}: "
                "scale of model and data must agree (set scale=...)"
            )
        if lr is None:
            if self.needs_lr:
                raise UserError(
                    f"loss term {', '.join(self.needs_lr)} needs the low-resolution input, "
                    "which this data does not have; leave the term out of loss=[...]"
                )
            lr = sr.new_empty(0)
        with torch.autocast(sr.device.type, enabled=False):
            sr, hr, lr = _at_least_float32(sr), _at_least_float32(hr), _at_least_float32(lr)
            values = {name: self[name](sr, hr, lr) for name in self.terms}
            shares = {name: self[name].weight * value for name, value in values.items()}
            total = torch.stack(list(shares.values())).sum()
        self.last = {name: value.detach() for name, value in values.items()}
        self.contributions = {name: share.detach() for name, share in shares.items()}
        return total


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
