"""The rules of a challenge: data in `experiments/<name>/collection.yaml`, read and checked here.

A track orders the admitted entries by one of three rules: the sum of their ranks in some metrics,
a weighted sum of exp(2 m / m_baseline), or one value. Sources: the challenges' repositories and
reports; where a year published no formula for an overall place, there is none.

Metrics carry the names of published.csv: ave_time_ms, params_m, flops_g, acts_m, mem_m, convs,
psnr_val and psnr_test in dB (RGB, the border cropped by the scale).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from esr.config import COLLECTION, experiments_dir
from esr.errors import UserError
from esr.zoo.catalogue import about


@dataclass(frozen=True)
class Track:
    """How one track orders its entries; the smallest total wins.

    `metrics` are those that count, with their weights (1 where a rule has none); `not_worse` must
    be no worse than the baseline's to be in the track at all.
    """

    rule: Literal["ranks", "score", "value"]
    metrics: Mapping[str, float]
    not_worse: tuple[str, ...] = ()


@dataclass(frozen=True)
class Floor:
    """Least PSNR for admission: `nominal` as announced, less the tolerance that was applied."""

    nominal: float
    tolerance: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Edition:
    """One year's challenge; `baseline` holds the organisers' figures of their reference."""

    name: str
    title: str
    tracks: Mapping[str, Track]
    baseline: Mapping[str, float]
    baseline_name: str
    gpu: str
    counter: str
    floors: Mapping[str, Floor] = field(default_factory=dict)
    note: str = ""


@functools.cache
def edition(name: str) -> Edition:
    """The edition called `name`.

    Raises:
        UserError: it is unknown, or its file is wrong; the message lists what is known.
    """
    if name not in editions():
        raise UserError(f"challenge '{name}' is unknown; there are: {', '.join(editions())}")
    found = about(name)
    rules: dict[str, Any] = dict(found["challenge"])
    try:
        baseline = dict(rules.pop("baseline"))
        return Edition(
            name=name,
            title=found["title"],
            tracks={key: _track(value) for key, value in rules.pop("tracks").items()},
            floors={key: Floor(**value) for key, value in rules.pop("floors", {}).items()},
            baseline_name=str(baseline.pop("name")),
            baseline=baseline,
            **rules,
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"experiments/{name}/{COLLECTION}.yaml: in `challenge`, {error}") from error


def editions() -> list[str]:
    """The collections that have rules, by name."""
    files = experiments_dir().glob(f"*/{COLLECTION}.yaml")
    return sorted(path.parent.name for path in files if "challenge" in about(path.parent.name))


def _track(values: Mapping[str, Any]) -> Track:
    metrics = values["metrics"]
    weights = metrics if isinstance(metrics, Mapping) else dict.fromkeys(metrics, 1.0)
    return Track(values["rule"], weights, tuple(values.get("not_worse", ())))
