"""The tables of a challenge: the measured beside the published, on screen and in files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esr.challenge.places import number, rank
from esr.challenge.rules import COSTS, Edition
from esr.console import markdown, print_table, say, shown
from esr.files import write_csv, write_json
from esr.zoo import catalogue


def write(
    folder: Path, rows: list[dict[str, Any]], rules: Edition, record: Mapping[str, Any]
) -> None:
    """Print the leaderboard and write it as leaderboard.csv, .json and .md."""
    folder.mkdir(parents=True, exist_ok=True)
    order = sorted(rows, key=lambda row: row.get("published_main") or 1e9)
    columns = [c for c in _columns(rules) if any(row.get(c) is not None for row in rows)]
    table = [{c: row.get(c) for c in columns if c != "note"} for row in order]
    write_csv(folder / "leaderboard.csv", order, columns)
    write_json(folder / "leaderboard.json", {"challenge": rules.name, **record, "rows": order})
    lines = [f"# {rules.title}", "", rules.note + ".", ""]
    own = record.get("own")
    if own:
        lines += [f"{own['row']['team']}: {own['placing']['sentence']}.", ""]
        lines += [f"Admission: {own['placing']['admission']}.", ""]
    if protocol := record.get("protocol"):
        lines += [
            f"Measured on {protocol['device']} with torch {protocol['torch']}: runtime by protocol "
            f"{protocol['runtime']} as a ratio to {protocol['reference']}, counter "
            f"{protocol['counter']}, {protocol['images']} images of {protocol['folder']}. "
            "`published_` columns are the challenge's own figures.",
            "",
        ]
    notes = [f"- {row['team']}: {row['note']}" for row in order if row.get("note")]
    parts = ["\n".join(lines), markdown(table), "\n".join(notes)]
    (folder / "leaderboard.md").write_text("\n".join(part for part in parts if part).strip() + "\n")
    print_table(f"{rules.title}: measured (published)", _brief(order, rules))
    say(f"written to {folder}")


def _brief(rows: Sequence[Mapping[str, Any]], rules: Edition) -> dict[str, dict[str, Any]]:
    """For the screen: each figure with the published one in brackets behind it."""
    brief = {}
    for row in rows:
        cells: dict[str, Any] = {}
        if row.get("status") not in (None, "measured"):
            cells["status"] = row["status"]
        cells |= {key: row.get(key) for key in ("psnr_rgb", "psnr_val", "runtime_ratio")}
        for key in (*rules.tracks, *COSTS):
            own, theirs = row.get(key), row.get(f"published_{key}")
            if own is not None or theirs is not None:
                behind = f" ({shown(key, theirs)})" if f"published_{key}" in row else ""
                cells[key] = shown(key, own) + behind
        brief[str(row.get("slug") or row["team"])] = {
            k: v for k, v in cells.items() if v is not None
        }
    return brief


def correlation(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Spearman's correlation of measured and published runtimes; None of fewer than three."""
    pairs = [
        (row["runtime_ratio"], row["published_ave_time_ms"])
        for row in rows
        if row.get("runtime_ratio") and row.get("published_ave_time_ms")
    ]
    if len(pairs) < 3:
        return None
    ranks = [_average_ranks(torch.tensor(values)) for values in zip(*pairs, strict=True)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def _average_ranks(values: Tensor) -> Tensor:
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return below + (equal + 1) / 2


def published_rows(
    found: Sequence[catalogue.Entry], rules: Edition, tolerance: float | None
) -> list[dict[str, Any]]:
    """The published table with the places computed anew from its figures."""
    competitors = [f for f in found if f.published and f.published["main_rank"]]
    ranked = rank([dict(f.published or {}) for f in competitors], rules.name, tolerance)
    places = {row["team"]: row for row in ranked}
    rows: list[dict[str, Any]] = []
    for entry in found:
        published = entry.published or {}
        row = {"team": entry.team, "slug": entry.slug}
        row |= {k: number(published.get(k)) for k in ("psnr_val", "psnr_test", *COSTS)}
        row |= {f"published_{t}": number(published.get(f"{t}_rank")) for t in rules.tracks}
        rows.append(row | {t: places.get(entry.team, {}).get(t) for t in rules.tracks})
    _whole_numbers(rows, rules)
    return rows


def measured_places(
    rows: Sequence[dict[str, Any]], rules: Edition, tolerance: float | None
) -> None:
    """Places among the entries that were both measured and ranked in the challenge.

    Runtimes are ordered by their ratio to the reference: on a machine whose load or clock changes
    during the run, that is what was measured under equal conditions.
    """
    competitors = [r for r in rows if r.get("params_m") is not None and r.get("published_main")]
    figures = [
        {**{key: row.get(key) for key in COSTS}, "ave_time_ms": row.get("runtime_ratio")}
        for row in competitors
    ]
    for row, places in zip(competitors, rank(figures, rules.name, tolerance), strict=True):
        row |= {track: places[track] for track in rules.tracks}
    _whole_numbers(rows, rules)


def _whole_numbers(rows: Sequence[dict[str, Any]], rules: Edition) -> None:
    for row in rows:
        for key in ("convs", "published_convs", *(f"published_{track}" for track in rules.tracks)):
            if isinstance(row.get(key), float):
                row[key] = int(row[key])


def _columns(rules: Edition) -> list[str]:
    measured = ["psnr_rgb", "psnr_y", "ssim_y", "psnr_val", "psnr_test"]
    published = ["published_psnr_val", "published_psnr_test"]
    costs = [name for key in COSTS for name in (key, f"published_{key}")]
    tracks = [name for track in rules.tracks for name in (track, f"published_{track}")]
    head = ["team", "slug", "status", *tracks, *measured, *published, "runtime_ratio"]
    return [*head, *costs, "unused_params_m", "note"]
