"""Checkpoints of a run: the best, the last, and one when the user presses Ctrl-C.

An interrupt waits for the end of the running step, so that the saved state is never half updated.
"""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

LAST = "last.ckpt"
BEST = "best.ckpt"


class Checkpoint(ModelCheckpoint):
    """Keeps `best.ckpt` by one metric and `last.ckpt`.

    Args:
        dirpath: the folder of the checkpoints.
        monitor: key of the metric.
        mode: whether a larger (`max`) or smaller (`min`) value is better.
    """

    def __init__(self, dirpath: str, monitor: str = "val/psnr_rgb", mode: str = "max"):
        super().__init__(
            dirpath=dirpath,
            filename=BEST.removesuffix(".ckpt"),
            monitor=monitor,
            mode=mode,
            save_last=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self._interrupted = False
        self._saved = False
        self._previous: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over Ctrl-C while training."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._interrupted:  # the second time: at once
            raise KeyboardInterrupt
        self._interrupted = True
        print("\nstopping after this step (Ctrl-C again: at once, without saving)", flush=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the loggers count optimiser steps.

        Resumed at the end of an epoch, Lightning 2.6 counts that epoch's last step twice.
        """
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch, batch_idx: int
    ) -> None:
        """Stop here if asked to: the step before has been logged and saved as a whole."""
        if self._saved:
            raise KeyboardInterrupt

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        """Save as usual, and when interrupted."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step >= trainer.max_steps > 0:
            trainer.should_stop = True  # so that Lightning validates the last step, too
        # Only whole optimiser steps can be resumed: wait for the end of an accumulation.
        if self._interrupted and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            trainer.save_checkpoint(Path(str(self.dirpath)) / LAST)
            self._saved = True

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give Ctrl-C back to whoever had it."""
        self._release()
        super().on_exception(trainer, pl_module, exception)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give Ctrl-C back to whoever had it."""
        self._release()

    def _release(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
