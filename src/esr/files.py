"""Files that appear whole or not at all, and the facts of a file: JSON, CSV, tensors, SHA-256."""

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when the block ends.

    A reader never sees half a file, and what was there stays there if the block fails. The suffix
    is kept, because some writers look at it. The folder is made if it is absent.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON; NaN and infinity, which JSON has no word for, become strings."""
    with whole(path) as part:
        part.write_text(json.dumps(_valid(content), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote, NaN and infinity as numbers again."""
    return _restored(json.loads(path.read_text()))


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str] | None = None) -> None:
    """Write rows under one header; absent values and None are empty fields."""
    with whole(path) as part, part.open("w", newline="") as file:
        names = columns or columns_of(rows)
        writer = csv.DictWriter(file, names, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Every column of the rows, in the order of first appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))


def write_tensors(path: Path, tensors: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write safetensors that carry `about` (JSON values) in their metadata, under `esr`."""
    from safetensors.torch import save_file  # torch takes seconds to import, and help needs none

    # Copies, because safetensors refuses tensors that share memory.
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {"format": "pt", "esr": json.dumps(_valid(about), allow_nan=False)}
    with whole(path) as part:
        save_file(copies, part, metadata=metadata)


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _valid(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _valid(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
