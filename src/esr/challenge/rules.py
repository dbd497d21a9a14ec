"""The rules of a challenge: data in `experiments/<name>/collection.yaml`, read and checked here.

A track orders the admitted entries by one of three rules: the sum of their ranks in some metrics,
a weighted sum of exp(2 m / m_baseline), or one value. Sources: the challenges' repositories and
reports; where a year published no formula for an overall place, there is none.

Metrics carry the names of published.csv, see `METRICS`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from esr.build import construct
from esr.config import COLLECTION, experiments_dir
from esr.errors import UserError, near
from esr.zoo.catalogue import about

Rule = Literal["ranks", "score", "value"]


@dataclass(frozen=True)
class Metric:
    """A column of published.csv."""

    word: str
    decimals: int  # in published tables; one's own figure is rounded likewise before it is placed
    ours: str = ""  # the key under which our log has it
    higher_wins: bool = False


METRICS = {
    "ave_time_ms": Metric("runtime", 2, "eff/runtime_ms"),
    "params_m": Metric("parameters", 3, "eff/params_m"),
    "flops_g": Metric("FLOPs", 2, "eff/flops_g"),
    "acts_m": Metric("activations", 2, "eff/acts_m"),
    "mem_m": Metric("memory", 2, "eff/memory_mib"),
    "convs": Metric("convolutions", 0, "eff/convs"),
    "psnr_val": Metric("PSNR", 2, higher_wins=True),  # dB, RGB, the border cropped by the scale
    "psnr_test": Metric("PSNR", 2, higher_wins=True),
}
COSTS = tuple(name for name, metric in METRICS.items() if metric.ours)


@dataclass(frozen=True)
class Track:
    """How one track orders its entries; the smallest total wins."""

    rule: Rule
    metrics: Mapping[str, float]  # those that count, with their weights (1 where a rule has none)
    not_worse: tuple[str, ...] = ()  # than the baseline's, to be in the track at all

    def __post_init__(self):
        if self.rule not in get_args(Rule):
            known = ", ".join(get_args(Rule))
            raise ValueError(f"rule '{self.rule}' is unknown; there are: {known}")
        for metric in (*self.metrics, *self.not_worse):
            if metric not in METRICS:
                hint = near(metric, METRICS) or ";"
                raise ValueError(f"no metric '{metric}'{hint} there are: {', '.join(METRICS)}")


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
    place = f"experiments/{name}/{COLLECTION}.yaml: challenge"
    rules = _mapping(found["challenge"], place)
    for key, kind in (("tracks", Track), ("floors", Floor)):
        if key in rules:
            each = _mapping(rules[key], f"{place}.{key}")
            rules[key] = {k: _made(kind, v, f"{place}.{key}.{k}") for k, v in each.items()}
    if "baseline" in rules:
        rules["baseline"] = baseline = _mapping(rules["baseline"], f"{place}.baseline")
        if "name" in baseline:
            rules["baseline_name"] = str(baseline.pop("name"))
    return _made(Edition, {"name": name, "title": found["title"], **rules}, place)


def editions() -> list[str]:
    """The collections that have rules, by name."""
    files = experiments_dir().glob(f"*/{COLLECTION}.yaml")
    return sorted(path.parent.name for path in files if "challenge" in about(path.parent.name))


def _made(kind: type, values: Any, place: str) -> Any:
    """An object of `kind`; an absent or unknown key is told with those that there are."""
    values = _mapping(values, place)
    if isinstance(values.get("metrics"), list):
        values["metrics"] = dict.fromkeys(values["metrics"], 1.0)
    return construct({"_target_": f"{__name__}.{kind.__name__}", **values}, place)


def _mapping(values: Any, place: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise UserError(f"{place}: expected keys with values, found {values!r}")
    return dict(values)
