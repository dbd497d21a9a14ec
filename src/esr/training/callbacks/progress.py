"""One bar for the whole run (loss, speed, time left) and one row of metrics an epoch."""

import time
from typing import Annotated, Any

import pytorch_lightning as pl
from annotated_types import Ge
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

COLUMNS = {
    "val/psnr_rgb": ("psnr_rgb", "{:.3f}"),
    "val/psnr_y": ("psnr_y", "{:.3f}"),
    "val/ssim_y": ("ssim_y", "{:.4f}"),
    "eff/runtime_ms": ("runtime_ms", "{:.2f}"),
    "eff/runtime_ratio": ("ratio", "{:.3f}"),
    "eff/memory_mib": ("memory_mib", "{:.0f}"),
}
"""What may change within a run, in order; what was not measured is left out."""


class Progress(ProgressBar):
    """Draws the bar on a terminal; elsewhere only the rows are printed."""

    def __init__(self, refresh_s: Annotated[float, Ge(0)] = 0.2):  # seconds between two updates
        super().__init__()
        self._refresh_s = refresh_s
        self._console = Console()
        self._bar: RichProgress | None = None
        self._enabled = True
        self._next_update = 0.0
        self._header: list[str] = []

    def disable(self) -> None:  # Lightning calls it on ranks other than zero
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._enabled:
            (self._bar.console if self._bar else self._console).print(*args, **kwargs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._enabled:
            return
        self._bar = RichProgress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "train", total=trainer.max_steps, completed=trainer.global_step, loss="-", speed="-"
        )
        self._bar.start()
        self._started = time.perf_counter()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self._bar is None or now < self._next_update:
            return
        self._next_update = now + self._refresh_s
        steps = trainer.global_step - self._first_step
        loss = trainer.progress_bar_metrics.get("train/loss", float("nan"))
        self._bar.update(
            self._task,
            completed=trainer.global_step,
            loss=f"{loss:.4f}",
            speed=f"{steps / max(now - self._started, 1e-9):.1f} steps/s",
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's row."""
        if not self._enabled or trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        loss = float(metrics.get("train/loss", float("nan")))
        row = {
            "epoch": str(trainer.current_epoch + 1),
            "step": str(trainer.global_step),
            "loss": f"{loss:.4f}",
        }
        for key, (name, form) in COLUMNS.items():
            if key in metrics:
                row[name] = form.format(float(metrics[key]))
        if list(row) != self._header:
            self._header = list(row)
            self._line({name: name for name in row}, "bold")
        self._line(row)

    def _line(self, row: dict[str, str], style: str | None = None) -> None:
        cells = (f"{value:>{max(len(name), 7) + 2}}" for name, value in row.items())
        self.print("".join(cells), style=style, highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop()  # so that the message stands alone

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
