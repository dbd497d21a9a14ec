"""Places in a challenge from its metrics, as its rules give them.

Equal totals share the smaller place and the next place is skipped. Ranks in one metric were taken
on figures that the published tables round, so two equal printed figures do not tell their order:
where rows carry a rank of that metric (`params_rank`, ...), it decides between equal figures, and
only there.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from esr.challenge.rules import COSTS, METRICS, Edition, Track, edition

Row = Mapping[str, Any]


def ours(row: Row, metrics: Iterable[str] = COSTS) -> dict[str, float]:
    """What a published row says of `metrics`, under the keys of our log."""
    found = {METRICS[metric].ours: number(row.get(metric)) for metric in metrics}
    return {key: value for key, value in found.items() if value is not None}


def published(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Our figures under the names of published.csv; None where one was not measured."""
    return {metric: metrics.get(METRICS[metric].ours) for metric in COSTS}


def rank(
    rows: Iterable[Row], challenge: str = "ntire2022", tolerance: float | None = None
) -> list[dict[str, Any]]:
    """Places of every row in every track of a challenge, the name of an edition.

    Rows have the metrics as numbers (or text of numbers); a missing one leaves the row without a
    place in the tracks that need it. `tolerance`: decibels below the announced floor that are
    admitted; the edition's by default.

    Returns:
        The rows in their order with, for each track, its place under the track's name (`main`,
        `sub1`, `sub2` in 2022; None without one) and its total as `TRACK_sum` or `TRACK_score`;
        for tracks by ranks also the rank in each metric (`ave_time_rank`, `params_rank`, ...).

    Raises:
        UserError: the challenge is unknown.
    """
    rules = edition(challenge)
    ranked = [dict(row) for row in rows]
    entered = [row for row in ranked if admitted(row, challenge, tolerance)]
    metrics = {m for t in rules.tracks.values() if t.rule == "ranks" for m in t.metrics}
    ranks = {metric: _metric_ranks(entered, metric) for metric in metrics}
    for name, track in rules.tracks.items():
        totals = [
            _total(row, track, rules, {m: ranks[m][i] for m in track.metrics if m in ranks})
            for i, row in enumerate(entered)
        ]
        for row in ranked:
            row[name] = None
        for row, total in zip(entered, totals, strict=True):
            row[name] = _place(total, totals)
            if track.rule != "value":
                row[f"{name}_{'sum' if track.rule == 'ranks' else 'score'}"] = total
    for metric, places in ranks.items():
        for row, place in zip(entered, places, strict=True):
            row[rank_column(metric)] = place
    return ranked


def admitted(row: Row, challenge: str = "ntire2022", tolerance: float | None = None) -> bool:
    """Whether a row's PSNR lets it in, compared at two decimals; an absent PSNR does.

    `tolerance` replaces the edition's own for `psnr_val`.
    """
    for metric, floor in edition(challenge).floors.items():
        value = number(row.get(metric))
        allowed = floor.tolerance if tolerance is None or metric != "psnr_val" else tolerance
        if value is not None and not round(value, 2) >= round(floor.nominal - allowed, 4) - 1e-9:
            return False
    return True


def score(row: Row, track: Track, rules: Edition) -> float | None:
    """Weighted sum of exp(2 m / m_baseline); the baseline itself has e^2 = 7.3891."""
    total = 0.0
    for metric, weight in track.metrics.items():
        value = number(row.get(metric))
        if value is None:
            return None
        total += weight * math.exp(2 * value / rules.baseline[metric])
    return total


def place(
    own: Row, rows: Sequence[Row], challenge: str = "ntire2022", tolerance: float | None = None
) -> dict[str, Any]:
    """Where a network would have come among the published entries that were ranked; see `rank`.

    Its figures are rounded as the published ones are, equal ones share a place.

    Returns:
        `of`, the number of entries with it; `admitted` (None if its PSNR is not known); `tracks`
        and `metrics` with its place in each, None where a figure is missing.
    """
    rules = edition(challenge)
    rounded = {"team": own.get("team", "this network")}
    for name, metric in METRICS.items():
        if (value := number(own.get(name))) is not None:
            rounded[name] = round(value, metric.decimals)
    known = any(metric in rounded for metric in rules.floors)
    verdict = admitted(rounded, challenge, tolerance) if known else None
    # The place is told even to a network that falls short: PSNR is left out of the comparison.
    others = [row for row in rows if admitted(row, challenge, tolerance)]
    entrant = {k: v for k, v in rounded.items() if k not in rules.floors}
    places = rank([*others, entrant], challenge, tolerance)[-1]
    metrics = dict.fromkeys(m for t in rules.tracks.values() for m in t.metrics)
    return {
        "of": len(others) + 1,
        "admitted": verdict,
        "tracks": {name: places[name] for name in rules.tracks},
        "metrics": {m: _metric_ranks([*others, entrant], m)[-1] for m in metrics},
    }


def sentence(placing: Mapping[str, Any]) -> str:
    """A placing in words: "would have ranked 4th of 36 in runtime, 2nd in parameters ..."."""
    parts = [f"{ordinal(n)} in {METRICS[m].word}" for m, n in placing["metrics"].items() if n]
    tracks = [f"{ordinal(n)} in {track}" for track, n in placing["tracks"].items() if n]
    if not parts:
        return "cannot be ranked: no figure of the challenge's metrics was measured"
    parts[0] = parts[0].replace(" in ", f" of {placing['of']} in ", 1)
    text = f"would have ranked {', '.join(parts)}"
    return f"{text}; by track: {', '.join(tracks)}" if tracks else text


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, ..., 11th, ..., 21st."""
    if n % 100 in (11, 12, 13):
        return f"{n}th"
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th') }"


def rank_column(metric: str) -> str:
    """The column of a metric's rank: params_m -> params_rank."""
    return metric.rsplit("_", 1)[0] + "_rank"


def number(value: Any) -> float | None:
    """A number from a number or its text; None from what is absent, empty or NaN."""
    if value is None or value == "":
        return None
    return None if math.isnan(float(value)) else float(value)


def _metric_ranks(rows: Sequence[Row], metric: str) -> list[int | None]:
    sign = -1 if METRICS[metric].higher_wins else 1
    keys = [(number(row.get(metric)), number(row.get(rank_column(metric)))) for row in rows]
    places: list[int | None] = []
    for value, given in keys:
        if value is None:
            places.append(None)
            continue
        better = sum(
            other is not None
            and (
                sign * other < sign * value
                or (other == value and None not in (given, known) and known < given)  # pyright: ignore
            )
            for other, known in keys
        )
        places.append(better + 1)
    return places


def _total(row: Row, track: Track, rules: Edition, ranks: Mapping[str, int | None]) -> float | None:
    if any(not _not_worse(row, metric, rules) for metric in track.not_worse):
        return None
    if track.rule == "score":
        return score(row, track, rules)
    if track.rule == "ranks":
        places = [ranks[metric] for metric in track.metrics]
        return None if None in places else sum(p for p in places if p is not None)
    metric = next(iter(track.metrics))
    value = number(row.get(metric))
    return -value if value is not None and METRICS[metric].higher_wins else value


def _not_worse(row: Row, metric: str, rules: Edition) -> bool:
    value, limit = number(row.get(metric)), rules.baseline[metric]
    if value is None:
        return False
    return round(value, 2) >= limit if METRICS[metric].higher_wins else value <= limit


def _place(total: float | None, totals: Sequence[float | None]) -> int | None:
    if total is None:
        return None
    return 1 + sum(other is not None and other < total for other in totals)
