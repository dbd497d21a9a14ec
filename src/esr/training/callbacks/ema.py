"""Exponential moving average of the weights, which validation and deployment then use."""

from typing import Annotated

import pytorch_lightning as pl
from annotated_types import Interval
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA(WeightAveraging):
    """Lightning's weight averaging with three of its traps removed.

    Lightning makes the average before the module is moved, so on an accelerator it would stay on
    the CPU and every step would copy all weights there; it updates tensor by tensor; and in a
    short run an average with the usual decay is still mostly the initial weights. Here the average
    lives beside the weights, is updated in one fused call, and its decay starts low.

    In a checkpoint `state_dict` is the average and `current_model_state` the raw weights. The
    average begins with the weights after the first step and must not be delayed, because
    validation shows it from the start.
    """

    def __init__(
        self,
        decay: Annotated[float, Interval(ge=0, le=1)] = 0.999,  # an optimiser step
        warmup: bool = True,  # (1 + step) / (10 + step) as long as that is smaller than `decay`
    ):
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay
        self.warmup = warmup

    def decay_at(self, step: int) -> float:
        """The decay of the update after `step` earlier ones."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    def _average(self, averages: list[Tensor], weights: list[Tensor], count: Tensor) -> None:
        get_ema_multi_avg_fn(self.decay_at(self._latest_update_step))(averages, weights, count)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._average_model is not None:
            self._average_model.to(pl_module.device)  # where the weights are by now
