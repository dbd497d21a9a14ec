"""Survive a step with inf or nan: leave it out, say which batch, stop if it does not end."""

import math
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Ge
from torch.nn.utils import get_total_norm

from esr.errors import UserError


class NonFiniteGuard(pl.Callback):
    """Skips optimiser steps in which a loss or a gradient is inf or nan.

    Losses are looked at too, because the gradient of L1 is finite where the difference is nan.

    The gradients are dropped, not zeroed: an optimiser leaves a parameter without gradient alone,
    so weights and moments stay bit for bit as they were; only the schedule moves on. It looks
    after an accumulation is complete and after the processes have added their gradients, so one
    bad batch spoils one whole step, on all processes alike. With float16's scaler, which skips by
    itself, it does nothing.
    """

    def __init__(self, patience: Annotated[int, Ge(1)] = 10):  # skipped steps in a row; then stop
        self.patience = patience
        self.skipped = 0
        self.in_a_row = 0
        self._losses: list[tuple[int, torch.Tensor]] = []
        self._names: dict[int, list[str]] = {}
        self._batch_idx = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch, batch_idx: int
    ) -> None:
        self._batch_idx = batch_idx
        if isinstance(batch, dict) and "name" in batch:
            self._names[batch_idx] = list(batch["name"])

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor
    ) -> None:
        self._losses.append((self._batch_idx, loss.detach()))  # does not wait for the device

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drop the gradients if one of them or a loss is not finite."""
        losses, self._losses = self._losses, []
        names, self._names = self._names, {}
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        total = torch.stack([loss for _, loss in losses]).sum() + get_total_norm(gradients)
        # The losses are each process's own; all of them must come to the same decision.
        bad_processes = trainer.strategy.reduce((~total.isfinite()).float(), reduce_op="sum")
        if not bad_processes:
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        for parameter in parameters:
            parameter.grad = None
        bad = [item for item in losses if not math.isfinite(float(item[1]))]
        epoch = trainer.current_epoch + 1
        culprits = "; ".join(
            f"batch {index} of epoch {epoch}, loss {float(loss):.4g}"
            + (f" ({', '.join(names[index])})" if index in names else "")
            for index, loss in (bad or losses)
        )
        if self.in_a_row >= self.patience:
            raise UserError(
                f"training diverged: {self.in_a_row} steps in a row gave inf or nan, "
                f"the last in {culprits}. Lower optim.lr, clip with "
                "trainer.gradient_clip_val=1, or use trainer.precision=32-true"
            )
        message = f"step {trainer.global_step} skipped, it gave inf or nan: {culprits}"
        bar = trainer.progress_bar_callback
        if trainer.is_global_zero:
            (bar.print if bar is not None else print)(message)
        elif bad:  # the bar of the other processes is mute
            print(message)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        if self.skipped:
            pl_module.log("train/skipped_steps", float(self.skipped), batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]
        self.in_a_row = state_dict["in_a_row"]
