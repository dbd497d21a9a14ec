"""End a trial of a search that will not be among the best: its time is better spent on another."""

from collections.abc import Callable

import pytorch_lightning as pl

from esr.errors import UserError


class Hopeless(Exception):
    """Raised to end a trial early; its last value counts for the search."""


class StopHopeless(pl.Callback):
    """Reports a metric at every validation and ends the training, in all processes, when told to.

    Raises:
        UserError: the metric is not logged while training.
        Hopeless: the trial is not worth going on.
    """

    def __init__(
        self,
        monitor: str,  # key of the metric
        report: Callable[[float, int], bool],  # takes its value and the step; True: stop
    ):
        self.monitor = monitor
        self.report = report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            logged = sorted(k for k in trainer.callback_metrics if k.startswith(("val/", "eff/")))
            raise UserError(
                f"objective={self.monitor} is not logged at a validation, so a trial cannot be "
                f"ended early by it: type sweep.pruner=null. Logged: {', '.join(logged)}"
            )
        value = float(trainer.callback_metrics[self.monitor])
        stop = trainer.is_global_zero and self.report(value, trainer.global_step)
        if trainer.strategy.broadcast(stop):
            raise Hopeless(f"stopped at step {trainer.global_step}: {self.monitor} {value:.4g}")
