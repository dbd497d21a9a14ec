"""Results for people and for files: a table on the screen, CSV, JSON and Markdown.

A row is a mapping from column to value. What is absent, None or NaN is shown as a dash or left
empty, never as zero.
"""

import csv
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.table import Table

DIGITS = {
    "psnr_val": 2,
    "psnr_test": 2,
    "psnr": 3,
    "ssim": 4,
    "params_m": 3,
    "flops_g": 2,
    "acts_m": 2,
    "runtime_ms": 2,
    "ave_time_ms": 2,
    "ratio": 3,
    "memory_mib": 1,
    "mem_m": 2,
    "convs": 0,
}
"""Decimals by a part of the column's name, the table's own precision; others get four digits."""

Row = Mapping[str, Any]


def print_table(title: str, rows: Mapping[str, Row], console: Console | None = None) -> None:
    """Print a table: of few names, a line per metric; of many names, a line per name.

    Args:
        title: above the table.
        rows: metrics by name; keys of the log lose their `val/` and `eff/`.
        console: where to; standard output by default.
    """
    columns = columns_of(list(rows.values()))
    titles = [column.removeprefix("val/").removeprefix("eff/") for column in columns]
    cells = [[shown(column, row.get(column)) for column in columns] for row in rows.values()]
    header, lines = titles, dict(zip(rows, cells, strict=True))
    if len(rows) <= 4:
        header, lines = list(rows), dict(zip(titles, zip(*cells, strict=True), strict=True))
    table = Table(title=title, title_justify="left")
    for name in ("", *header):
        table.add_column(name, justify="right" if name else "left")
    for name, values in lines.items():
        table.add_row(name, *values)
    if console is None:  # a log file is as wide as the table needs it to be
        console = Console() if sys.stdout.isatty() else Console(width=250)
    console.print(table)


def shown(column: str, value: Any) -> str:
    """A value as a table shows it."""
    if value is None or value == "":
        return "-"
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "NaN"
    digits = [digits for part, digits in DIGITS.items() if part in column]
    return f"{value:.{digits[0]}f}" if digits else f"{value:.4g}"


def markdown(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """A Markdown table, numbers to the right."""
    columns = list(columns or columns_of(rows))
    numeric = [
        all(isinstance(row.get(c), (int, float, type(None))) for row in rows) for c in columns
    ]
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|",
    ]
    for row in rows:
        cells = (shown(column, row.get(column)).replace("|", "\\|") for column in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str] | None = None) -> None:
    """Write rows under one header; absent values and None are empty fields."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, columns or columns_of(rows), restval="", extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON; NaN and infinity, which JSON has no word for, become strings."""
    path.write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Every column of the rows, in the order of first appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


# Progress of long preparations: a bar on the terminal once they take longer than a moment.


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
