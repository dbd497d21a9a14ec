"""Progress of long preparations: a bar on the terminal once they take longer than a moment."""

import time
from types import TracebackType

_PATIENCE = 1.5  # seconds before a bar appears


class Progress:
    """A bar that only appears when the work takes a while; None as title never shows one.

    Args:
        title: what is being done.
        total: units of work (images, bytes).
        bytes: show units as bytes.
    """

    def __init__(self, title: str | None, total: float | None, bytes: bool = False):
        self._title = title
        self._total = total
        self._bytes = bytes
        self._done = 0.0
        self._began = time.monotonic()
        self._bar = None
        self._task = None

    def __enter__(self) -> "Progress":
        return self

    def advance(self, units: float) -> None:
        """Some units more are done."""
        self._done += units
        if self._bar is None and self._title and time.monotonic() - self._began > _PATIENCE:
            self._show()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self) -> None:
        from rich import progress
        from rich.console import Console

        amount = progress.DownloadColumn() if self._bytes else progress.MofNCompleteColumn()
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            amount,
            *([progress.TransferSpeedColumn()] if self._bytes else []),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(self._title or "", total=self._total)
        self._bar.start()


def announce(message: str) -> None:
    """Tell the user about something long or large before it begins."""
    from rich.console import Console

    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)
