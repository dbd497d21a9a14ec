"""Gradual pruning: a penalty that grows until the chosen channels are dispensable."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from esr.callbacks.pruning import ChannelCallback, network
from esr.errors import UserError
from esr.surgery.pruning import rebuild
from esr.surgery.pruning.graph import Slot
from esr.surgery.pruning.importance import Magnitude


class GrowingPenalty(ChannelCallback):
    """Regularisation of the channels that are to go, ever stronger, until they are dispensable.

    `l2` shrinks them in proportion (growing regularisation, Wang et al., ICLR 2021), `lasso` by a
    constant length of the whole group, which reaches zero (group lasso, Wen et al., NeurIPS 2016).
    It acts after the optimiser's step, decoupled from it, since Adam would divide a penalty in the
    gradient by itself. The weakest channels by group norm are chosen once, when training starts.

    Args:
        model: see `ChannelCallback`.
        widths: see `ChannelCallback`.
        kind: l2 or lasso.
        step: what is added to the penalty each time.
        every: optimiser steps between two additions.
        ceiling: largest penalty.
        folder: see `ChannelCallback`.
        measure: see `ChannelCallback`.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        widths: Mapping[str, Any] | None,
        kind: Literal["l2", "lasso"] = "l2",
        step: float = 0.1,
        every: int = 10,
        ceiling: float = 1000.0,
        folder: str | Path | None = None,
        measure: bool = True,
    ):
        super().__init__(model, widths, folder, measure)
        if kind not in ("l2", "lasso"):
            raise UserError(f"kind={kind}: choose l2 or lasso")
        if step <= 0 or every < 1:
            raise UserError(f"step={step}, every={every}: both must be positive")
        self.kind, self.step, self.every, self.ceiling = kind, step, every, ceiling
        self._rows: dict[Slot, torch.Tensor] = {}
        self._begun = 0.0

    def penalty(self, step: int) -> float:
        """The penalty at an optimiser step."""
        return min(self.ceiling, self.step * (1 + step // self.every))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose, unless a checkpoint has."""
        if not self.kept:
            self.choose(pl_module, Magnitude())
        self._rows = {
            slot: index.to(pl_module.device)
            for slot, index in self.gone(only_written=False).items()
        }
        self._begun = self._begun or self._norm(pl_module)

    def on_train_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        rate = max(
            group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups
        )
        shrink = rate * self.penalty(trainer.global_step)
        if self.kind == "l2":
            factor = max(0.0, 1.0 - shrink)
        else:
            factor = max(0.0, 1.0 - shrink / max(self._norm(pl_module), 1e-12))
        tensors = network(pl_module).state_dict()
        with torch.no_grad():
            for (name, dim), index in self._rows.items():
                if not tensors[name].is_floating_point():
                    continue
                rows = tensors[name].index_select(dim, index)
                tensors[name].index_copy_(dim, index, rows * factor)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell how much is left of what is to go, and what its removal would cost now."""
        net, device = network(pl_module), pl_module.device
        facts = {f"{k}_before": v for k, v in self.psnr(trainer, net, device).items()}
        if facts:
            state = rebuild.silence(net.state_dict(), self.structure.segments, self.kept)
            silenced = rebuild.build(self.structure.config, state).to(device)
            facts |= {f"{k}_after": v for k, v in self.psnr(trainer, silenced, device).items()}
        left = self._norm(pl_module) / max(self._begun, 1e-12)
        self.tell(trainer, pl_module, penalty=self.penalty(trainer.global_step), left=left, **facts)

    def state_dict(self) -> dict[str, Any]:
        """The choice, and the norm of what is to go when it was made."""
        return {**super().state_dict(), "begun": self._begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `ChannelCallback`."""
        super().load_state_dict(state_dict)
        self._begun = state_dict["begun"]

    def _norm(self, pl_module: pl.LightningModule) -> float:
        tensors = network(pl_module).state_dict()
        squares = [
            tensors[name].detach().index_select(dim, index).float().square().sum()
            for (name, dim), index in self._rows.items()
        ]
        return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
