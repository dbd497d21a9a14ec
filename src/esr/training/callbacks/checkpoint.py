"""Checkpoints of a run: the best, the last, and one when a signal asks the run to stop.

A signal waits for the end of the running step, so that the saved state is never half updated. The
processes of a distributed run stop after the same step, whichever of them was told.
"""

from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint

from esr.training.signals import Signals

LAST = "last.ckpt"
BEST = "best.ckpt"
TOGETHER = 10
"""Optimiser steps after which the processes of a distributed run ask each other for signals."""


class Checkpoint(ModelCheckpoint):
    """Keeps `best.ckpt` by one metric and `last.ckpt`."""

    def __init__(
        self,
        dirpath: str,
        monitor: str | None = "val/psnr_rgb",  # key of the metric; None: the last is the best
        mode: Literal["max", "min"] = "max",
    ):
        super().__init__(
            dirpath=dirpath,
            filename=BEST.removesuffix(".ckpt"),
            monitor=monitor,
            mode=mode,
            save_last=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self._signals = Signals()
        self._stop = 0  # the signal to hand over when the next step begins

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See who handles signals, before Lightning does.

        Lightning would save a SLURM job in the middle of a step, and prefer that file ever after.
        """
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False
        self._signals, self._stop = Signals(trainer.is_global_zero), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over: Lightning's handlers end a run without a checkpoint."""
        self._signals.take()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the loggers count optimiser steps.

        Resumed at the end of an epoch, Lightning 2.6 counts that epoch's last step twice.
        """
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch, batch_idx: int
    ) -> None:
        """Stop here if asked to: the step before has been logged and saved as a whole."""
        if not self._stop:
            return
        noted, self._stop = self._stop, 0
        for logger in trainer.loggers:
            logger.save()  # whoever gets the signal may end the program at once
        ends = trainer.strategy.broadcast(not self._signals.passes(noted))
        self._signals.hand_over(noted, ends)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step >= trainer.max_steps > 0:
            trainer.should_stop = True  # so that Lightning validates the last step, too
        # Only whole optimiser steps can be resumed: wait for the end of an accumulation.
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._stop = self._noted(trainer)
            if self._stop:
                trainer.save_checkpoint(Path(str(self.dirpath)) / LAST)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        validated = trainer.fit_loop.epoch_loop.val_loop._has_run
        measured = self.monitor is None or self.monitor in trainer.callback_metrics
        if validated or measured:  # not when resumed behind it: Lightning would warn
            super().on_train_epoch_end(trainer, pl_module)
        if self._should_save_on_train_epoch_end(trainer):  # validation ends with the epoch
            self._save_last(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):  # it has a rhythm of its own
            self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        """Save the last state though it is not the best: else a kill would cost all since then."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _noted(self, trainer: pl.Trainer) -> int:
        """What any process has noted; seldom asked, because asking makes all of them wait."""
        if trainer.world_size == 1:
            return self._signals.noted
        if trainer.global_step % TOGETHER:
            return 0
        own = torch.tensor(self._signals.noted, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(own, reduce_op="max"))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._signals.give_back()
        super().on_exception(trainer, pl_module, exception)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._signals.give_back()
