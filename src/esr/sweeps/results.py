"""What a sweep gave: SWEEP/sweep.csv, the best on the screen, and a picture of a Pareto front."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from esr.console import print_table, pyplot, say
from esr.evaluation import objective
from esr.files import write_csv
from esr.sweeps import trial

TABLE = "sweep.csv"
PICTURE = "pareto.png"

Record = dict[str, Any]
"""What `trial.json` holds."""


def read(folder: Path) -> dict[int, Record]:
    """The records of all trials that ended, by number."""
    found = sorted(int(path.parent.name) for path in folder.glob(f"[0-9]*/{trial.RECORD}"))
    records = ((n, trial.read(folder / str(n))) for n in found)
    return {n: record for n, record in records if record is not None}


def write(folder: Path) -> dict[int, Record]:
    """Write the table: a row a trial, a column for each override that differs and each metric.

    Returns:
        The records.
    """
    records = read(folder)
    typed = {n: _typed(record["overrides"]) for n, record in records.items()}
    empty = dict.fromkeys((k for values in typed.values() for k in values), "")
    empty |= dict.fromkeys((k for r in records.values() for k in r.get("metrics", {})), "")
    rows = [
        {"trial": n, "status": record["status"]}
        | empty
        | typed[n]
        | record.get("metrics", {})
        | {"seconds": record.get("seconds", ""), "error": record.get("error", "")}
        | {"folder": str(folder / str(n))}
        for n, record in records.items()
    ]
    if rows:
        write_csv(folder / TABLE, rows)
    return records


def front(records: dict[int, Record], directions: Sequence[str]) -> list[int]:
    """The trials that no other one beats in every objective, best first by the first objective."""
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    points = {
        n: tuple(sign * value for sign, value in zip(signs, record["values"], strict=True))
        for n, record in records.items()
        if record["status"] == "done" and len(record["values"]) == len(signs)
    }
    optimal = [
        n
        for n, point in points.items()
        if not any(
            other != point and all(a >= b for a, b in zip(other, point, strict=True))
            for other in points.values()
        )
    ]
    return sorted(optimal, key=lambda n: points[n], reverse=True)


def report(folder: Path, directions: Sequence[str] | None = None) -> list[str]:
    """Write the table, draw the front if there are several objectives, and tell the best.

    The directions are `maximize` or `minimize` for each objective; None: by its key. Returns what
    the trials that failed said.
    """
    records = write(folder)
    failures = [record["error"] for record in records.values() if record["status"] == "failed"]
    keys = next((record["objective"] for record in records.values() if "values" in record), None)
    if keys is None:
        return failures
    best = front(records, directions or objective.directions(keys))
    shared = set.intersection(*(set(record["overrides"]) for record in records.values()))
    shown = {
        f"trial {n}": _typed(o for o in records[n]["overrides"] if o not in shared)
        | dict(zip(keys, records[n]["values"], strict=True))
        for n in best[:20]
    }
    print_table("best" if len(keys) == 1 else "Pareto front", shown)
    if failures:
        say(f"trials             {len(records)}, {len(failures)} failed")
    say(f"table              {folder / TABLE}")
    if len(keys) > 1 and _draw(folder / PICTURE, records, best, keys):
        say(f"picture            {folder / PICTURE}")
    say(f"repeat trial {best[0]:<5} {_command(folder / str(best[0]), records[best[0]])}")
    return failures


def _typed(overrides: Iterable[str]) -> dict[str, str]:
    return {key: value for key, _, value in (o.partition("=") for o in overrides)}


def _command(folder: Path, record: Record) -> str:
    if (folder / "config.yaml").is_file():
        return f"python train.py --config-dir {folder} --config-name config"
    return f"python train.py {shlex.join(record['overrides'])}"


def _draw(path: Path, records: dict[int, Record], best: Sequence[int], keys: Sequence[str]) -> bool:
    """The first objective over the second, the front joined; False without matplotlib."""
    plt = pyplot()
    if plt is None:
        return False
    figure, axes = plt.subplots(figsize=(6, 4))
    done = {n: r["values"] for n, r in records.items() if r["status"] == "done"}
    axes.scatter([v[1] for v in done.values()], [v[0] for v in done.values()], color="0.6", s=18)
    line = sorted((done[n][1], done[n][0], n) for n in best)
    axes.step([x for x, _, _ in line], [y for _, y, _ in line], "o-", where="post", markersize=5)
    for x, y, number in line:
        axes.annotate(str(number), (x, y), textcoords="offset points", xytext=(4, -10), fontsize=8)
    axes.set_xlabel(keys[1])
    axes.set_ylabel(keys[0])
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
    return True
