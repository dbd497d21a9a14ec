"""The rules of the efficient super-resolution challenges, 2019 to 2026, as data.

A track orders the admitted entries by one of three rules: the sum of their ranks in some metrics,
a weighted sum of exp(2 m / m_baseline), or one value. Sources: the challenges' repositories and
reports; where a year published no formula for an overall place, there is none here.

Metrics carry the names of published.csv: ave_time_ms, params_m, flops_g, acts_m, mem_m, convs,
psnr_val and psnr_test in dB (RGB, the border cropped by the scale).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from esr.errors import UserError


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


@dataclass(frozen=True)
class Edition:
    """One year's challenge; `baseline` holds the organisers' figures of their reference."""

    name: str
    title: str
    tracks: Mapping[str, Track]
    floors: Mapping[str, Floor]
    baseline: Mapping[str, float]
    baseline_name: str
    gpu: str
    counter: str
    note: str = ""
    collection: str | None = field(default=None)


def _ranks(*metrics: str) -> Track:
    return Track("ranks", dict.fromkeys(metrics, 1.0))


def _score(**weights: float) -> Track:
    return Track("score", weights)


def _value(metric: str, *not_worse: str) -> Track:
    return Track("value", {metric: 1.0}, not_worse)


def _scored(
    year: int, gpu: str, baseline_name: str, baseline: Mapping[str, float], *weights: float
) -> Edition:
    names = ("ave_time_ms", "flops_g", "params_m")
    return Edition(
        name=f"ntire{year}",
        title=f"NTIRE {year} Efficient SR",
        tracks={
            "main": _score(**dict(zip(names, weights, strict=True))),
            "runtime": _score(ave_time_ms=1.0),
            "flops": _score(flops_g=1.0),
            "params": _score(params_m=1.0),
        },
        floors={"psnr_val": Floor(26.90), "psnr_test": Floor(26.99)},
        baseline=baseline,
        baseline_name=baseline_name,
        gpu=gpu,
        counter="fvcore",
        note="PSNR on 100 DIV2K and 100 LSDIR images each, compared at two decimals; five runs",
    )


_MSRRESNET = {"params_m": 1.517571, "psnr_val": 29.00}
_FIVE = ("ave_time_ms", "params_m", "flops_g", "acts_m", "mem_m")

EDITIONS = {
    edition.name: edition
    for edition in (
        Edition(
            name="aim2019",
            title="AIM 2019 Constrained SR",
            tracks={
                "params": _value("params_m", "ave_time_ms", "psnr_val"),
                "inference": _value("ave_time_ms", "params_m", "psnr_val"),
                "fidelity": _value("psnr_val", "params_m", "ave_time_ms"),
            },
            floors={},
            baseline={**_MSRRESNET, "ave_time_ms": 170.0},
            baseline_name="MSRResNet",
            gpu="Titan Xp",
            counter="ntire2022",
            note="each track allows no metric of the other two to be worse than the baseline's",
        ),
        Edition(
            name="aim2020",
            title="AIM 2020 Efficient SR",
            tracks={
                "runtime": _value("ave_time_ms"),
                "params": _value("params_m"),
                "flops": _value("flops_g"),
                "acts": _value("acts_m"),
                "memory": _value("mem_m"),
            },
            floors={"psnr_val": Floor(29.00)},
            baseline={
                **_MSRRESNET,
                "ave_time_ms": 114.0,
                "flops_g": 166.36,
                "acts_m": 292.55,
                "mem_m": 610.0,
            },
            baseline_name="MSRResNet",
            gpu="Titan Xp",
            counter="aim2020",
            note="five metrics and no published formula for an overall place; memory at 256x256",
        ),
        Edition(
            name="ntire2022",
            title="NTIRE 2022 Efficient SR",
            tracks={
                "main": _ranks("ave_time_ms"),
                "sub1": _ranks("params_m", "flops_g"),
                "sub2": _ranks(*_FIVE),
            },
            # Announced as 29.00 dB on validation. What was applied follows from the table: the
            # lowest of the ranked has 28.95 and 28.65, and 29.00 / 28.61 was turned down.
            floors={"psnr_val": Floor(29.00, 0.05), "psnr_test": Floor(28.65)},
            baseline={
                "ave_time_ms": 50.86,
                "params_m": 0.894,
                "flops_g": 58.53,
                "acts_m": 154.14,
                "mem_m": 471.76,
                "psnr_val": 29.13,
                "psnr_test": 28.78,
            },
            baseline_name="IMDN",
            gpu="Titan Xp",
            counter="ntire2022",
            note="MegSR and Alpan share 18 in sub-track 1, which the published table prints as "
            "places 9 and 10 although it lets all other equal sums share a place",
            collection="ntire2022",
        ),
        Edition(
            name="ntire2023",
            title="NTIRE 2023 Efficient SR",
            tracks={
                "runtime": _value("ave_time_ms"),
                "params": _value("params_m"),
                "flops": _value("flops_g"),
                "acts": _value("acts_m"),
                "depth": _value("convs"),
            },
            floors={"psnr_val": Floor(29.00)},
            baseline={
                "params_m": 0.433,
                "flops_g": 27.10,
                "acts_m": 112.03,
                "convs": 64,
            },
            baseline_name="RFDN",
            gpu="not stated",
            counter="ntire2023",
            note="several metrics at once counted more; no formula was published",
        ),
        _scored(
            2024,
            "RTX 3090",
            "RLFN",
            {"ave_time_ms": 13.54, "flops_g": 19.67, "params_m": 0.317, "psnr_val": 26.96,
             "psnr_test": 27.07},
            0.70, 0.15, 0.15,
        ),
        _scored(
            2025,
            "RTX A6000",
            "EFDN",
            {"ave_time_ms": 16.69, "flops_g": 16.70, "params_m": 0.276, "psnr_val": 26.93,
             "psnr_test": 27.01},
            0.70, 0.15, 0.15,
        ),
        _scored(
            2026,
            "RTX A6000",
            "SPAN (28 channels)",
            {"ave_time_ms": 7.74, "flops_g": 9.83, "params_m": 0.151, "psnr_val": 26.94,
             "psnr_test": 27.01},
            0.80, 0.10, 0.10,
        ),
    )
}  # fmt: skip
"""Every edition whose rules are known, by name."""


def edition(name: str) -> Edition:
    """The edition called `name`.

    Raises:
        UserError: it is unknown; the message lists the known ones.
    """
    if name not in EDITIONS:
        raise UserError(f"challenge '{name}' is unknown; there are: {', '.join(EDITIONS)}")
    return EDITIONS[name]
