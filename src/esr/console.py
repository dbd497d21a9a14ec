"""What a person sees: lines, progress bars and tables, the same for every command.

Text that comes from outside (names, paths, overrides such as `[l1]`) is printed as it is, never
read as markup. In a table what is absent, None or NaN is a dash, never zero.
"""

import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from esr.files import Row, columns_of

PATIENCE = 1.5
"""Seconds that work may take before a bar appears."""


def say(line: str, aside: bool = False) -> None:
    """Print a line as it is; `aside` to standard error, where it does not mix with results."""
    Console(stderr=aside).print(line, markup=False, highlight=False, soft_wrap=True)


def rule(title: str) -> None:
    """A line across the screen with a title in it."""
    Console().rule(Text(title), align="left")


def pyplot() -> Any | None:
    """`matplotlib.pyplot`, drawing into files; None where matplotlib is not installed."""
    try:
        importlib.import_module("matplotlib").use("Agg")
    except ImportError:
        return None
    return importlib.import_module("matplotlib.pyplot")


@contextmanager
def bar(
    title: str | None,  # what is being done; None never shows a bar
    total: float | None,  # units of work, such as images; None if it is not known
    bytes: bool = False,  # the units are bytes
    stays: bool = True,  # its last state stays on the screen
) -> Iterator[Callable[..., None]]:
    """A progress bar that appears once the work takes longer than a moment.

    Yields a function that is called after each unit, or with the number of units.
    """
    amount = progress.DownloadColumn() if bytes else progress.MofNCompleteColumn()
    shown = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        amount,
        *([progress.TransferSpeedColumn()] if bytes else []),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=not stays,
    )
    task = shown.add_task(title or "", total=total)
    began = time.monotonic()

    def advance(units: float = 1) -> None:
        shown.advance(task, units)
        if title and not shown.live.is_started and time.monotonic() - began > PATIENCE:
            shown.start()

    try:
        yield advance
    finally:
        if shown.live.is_started:
            shown.stop()


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


def print_table(title: str, rows: Mapping[str, Row]) -> None:
    """Print metrics by name: of few names, a line per metric; of many names, a line per name.

    Keys of the log lose their `val/` and `eff/`.
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
    show_table(table)


def show_table(table: Table) -> None:
    """Print a table; a log file is as wide as the table needs it to be."""
    Console(width=None if sys.stdout.isatty() else 250).print(table)


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
