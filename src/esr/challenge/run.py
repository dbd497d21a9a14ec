"""A whole challenge at once: every released entry measured in one process, beside the published.

Each entry's result is a file of its own, written when it is done, so a run that was broken off
goes on where it was when the same command is typed again. Entries are measured by the same
functions as a single network; runtimes are set against a reference entry in the same process,
because milliseconds do not travel between devices.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from esr.challenge.places import number, place, published, sentence
from esr.challenge.rules import COSTS, METRICS, Edition, edition
from esr.challenge.tables import correlation, measured_places, published_rows, write
from esr.console import say
from esr.data.official import is_div2k_valid
from esr.errors import UserError
from esr.evaluation import measure
from esr.evaluation.measure import ValidationData
from esr.evaluation.reference import reference_network
from esr.evaluation.selection import Selection, choose_device, select, validation_data
from esr.evaluation.tiling import Tiling, Upscaler, published_tiling
from esr.files import read_json, write_json
from esr.metrics.complexity import COUNTERS
from esr.metrics.runtime import PROTOCOLS
from esr.provenance import provenance
from esr.surgery.fuse import fuse
from esr.zoo import catalogue
from esr.zoo.catalogue import weights_folder

SOURCES = ("measured", "published")


@dataclasses.dataclass(frozen=True)
class Terms:
    """How the entries are measured; a result is only reused if all of this is the same."""

    counter: str
    runtime: str
    seconds: float | None
    reference: str
    weights: str | None
    data: str
    images: int
    device: str
    torch: str


def run(cfg: DictConfig) -> float | None:
    """Do what `python evaluate.py challenge=NAME ...` asks for and write leaderboard.*.

    Returns:
        PSNR (RGB) of the own network if there is one.

    Raises:
        UserError: the challenge, source, counter or protocol is unknown; the data does not fit.
    """
    rules = edition(cfg.challenge)
    for name, value, known in (
        ("source", cfg.source, SOURCES),
        ("counter", cfg.counter, COUNTERS),
        ("protocol", cfg.protocol, PROTOCOLS),
    ):
        if value not in known:
            raise UserError(f"{name} '{value}' is unknown; there are: {', '.join(known)}")
    found = catalogue.entries(rules.name)
    if not found:
        raise UserError(
            f"the entries of {rules.title} are not part of this package, only its rules: give "
            f"their figures to esr.challenge.rank(rows, challenge='{rules.name}')"
        )
    if cfg.source == "published":
        folder = Path(cfg.folder or Path(cfg.output) / f"{rules.name}_published")
        write(folder, published_rows(found, rules, cfg.tolerance), rules, {"source": "published"})
        return None
    return _measured(cfg, rules, found)


def _measured(cfg: DictConfig, rules: Edition, found: Sequence[catalogue.Entry]) -> float | None:
    device = choose_device(cfg.device)
    own = select(cfg) if cfg.checkpoint is not None else None
    data = validation_data(cfg)
    inputs = [batch["lr"] for batch in data.val_dataloader()[0]]
    facts = provenance(device)
    terms = Terms(
        cfg.counter, cfg.protocol, cfg.seconds, cfg.reference, cfg.weights, data.checksum(),
        len(inputs), facts["device"]["name"], torch.__version__,
    )  # fmt: skip
    sets = "-".join(data.val_names)
    default = Path(cfg.output) / f"{rules.name}_{sets}_{device.type}_{cfg.protocol}"
    folder = Path(cfg.folder or default)
    say(f"{rules.title} on {sets} ({len(inputs)} images), {facts['device']['name']}")
    say(f"protocol  {cfg.protocol} runtime against {cfg.reference}, counter {cfg.counter}")
    reference = reference_network(data.scale, device, cfg.reference)
    bench = Bench(rules, terms, data, inputs, device, reference, cfg.weights_folder)
    rows = []
    started, measured = time.perf_counter(), 0
    for position, entry in enumerate(found, 1):
        before = time.perf_counter()
        row = _entry(entry, bench, folder / "entries")
        rows.append(row)
        measured += time.perf_counter() - before > 0.5
        each = (time.perf_counter() - started) / max(measured, 1)
        left = f", at most {each * (len(found) - position):.0f} s left" if measured else ""
        say(f"{position:2d}/{len(found)} {_line(row)}{left}")
    if absent := sum(row["status"] == "weights absent" for row in rows):
        say(
            f"{absent} entries have no official weights in {weights_folder(cfg.weights_folder)} "
            "(weights_folder=FOLDER); weights=null measures the cost of all with random ones"
        )
    measured_places(rows, rules, cfg.tolerance)
    record: dict[str, Any] = {
        "source": "measured",
        "protocol": dataclasses.asdict(terms) | {"folder": sets},
        "spearman": {"ave_time_ms": correlation(rows)},
        **facts,
    }
    value = None
    if own is not None:
        row, placing = _own(own, bench, found, cfg.tolerance)
        rows.append(row)
        record["own"] = {"row": row, "placing": placing}
        value = row.get("psnr_rgb")
    write(folder, rows, rules, record)
    return value


@dataclasses.dataclass(frozen=True)
class Bench:
    """What every network is measured with."""

    rules: Edition
    terms: Terms
    data: ValidationData
    inputs: Sequence[Tensor]
    device: torch.device
    reference: tuple[str, nn.Module]
    weights_folder: str | None

    def measure(
        self, net: nn.Module, tiling: Tiling | None, scored: bool = True, unused: int = 0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Figures by the names of published.csv, and how each was measured.

        Published parameter counts include what the official file carries without using it:
        `unused` parameters, which our network does not have.
        """
        net = fuse(net).to(self.device).eval()
        scale = self.data.scale
        found: dict[str, Any] = {"status": "measured" if scored else "random weights"}
        runner = net if tiling is None else Upscaler(net, scale, self.device, tiling)
        if scored:
            scores = measure.fidelity(runner, self.data, self.device)
            found |= {key: number(scores[f"val/{key}"]) for key in measure.SCORES}
            if None in found.values():
                found |= {"status": "output not finite", "note": "the output is not finite"}
        cost = measure.efficiency(
            net,
            self.device,
            counter=self.terms.counter,
            protocol=self.terms.runtime,
            inputs=self.inputs,
            reference=self.reference,
            seconds=self.terms.seconds,
            runner=runner,
        )
        metrics = cost.metrics()
        found |= {"runtime_ratio": metrics.get("eff/runtime_ratio"), **published(metrics)}
        found["params_m"] = (cost.complexity.params + unused) / 1e6
        found["unused_params_m"] = (cost.complexity.unused_params + unused) / 1e6
        return found, {"efficiency": cost.record(), "scale": scale}


def _entry(found: catalogue.Entry, bench: Bench, folder: Path) -> dict[str, Any]:
    """The row of an entry: measured now or earlier, or why there is nothing to measure."""
    row = {"team": found.team, "slug": found.slug, "status": "measured"}
    figures = found.published or {}
    row |= {f"published_{k}": number(figures.get(k)) for k in METRICS}
    row |= {f"published_{t}": number(figures.get(f"{t}_rank")) for t in bench.rules.tracks}
    row["note"] = found.note
    random = bench.terms.weights is None
    if not found.model or not (found.released or random):
        return row | {"status": "not released"}
    if not random and not catalogue.at_hand(found, bench.weights_folder):
        return row | {"status": "weights absent"}
    path = folder / f"{found.slug}.json"
    mark = _fingerprint(bench.terms, None if random else found.sha256)
    if path.is_file() and (earlier := read_json(path)).get("mark") == mark:
        return row | earlier["figures"]
    try:
        weights = None if random else "official"
        net = catalogue.load(found.name, weights, folder=bench.weights_folder)
        measured, record = bench.measure(
            net, published_tiling(found.tile), not random, found.unused_params
        )
    except UserError as error:
        return row | {"status": f"failed: {error}"}
    write_json(path, {"mark": mark, "figures": measured, **record})
    return row | measured


def _own(
    chosen: Selection,
    bench: Bench,
    found: Sequence[catalogue.Entry],
    tolerance: float | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of one's own network and where it would have come in the published table."""
    if chosen.scale != bench.data.scale:
        raise UserError(f"{chosen.name} is x{chosen.scale}, the challenge x{bench.data.scale}")
    figures, _ = bench.measure(chosen.net, chosen.tiling)
    row = {"team": chosen.name, "slug": None, **figures, "status": "own"}
    rows = {f.name: f.published for f in found if f.published}
    entrant = {key: row[key] for key in COSTS if key != "ave_time_ms"}
    reference = rows.get(bench.terms.reference)
    if row["runtime_ratio"] is not None and reference is not None:
        # Milliseconds of another GPU mean nothing here; the ratio does.
        entrant["ave_time_ms"] = row["runtime_ratio"] * float(reference["ave_time_ms"])
    if is_div2k_valid(batch["name"][0] for batch in bench.data.val_dataloader()[0]):
        entrant["psnr_val"] = row["psnr_rgb"]
    competitors = [p for p in rows.values() if p["main_rank"]]
    rules = bench.rules
    placing = place(entrant, competitors, rules.name, tolerance)
    floor = rules.floors["psnr_val"]
    slack = floor.tolerance if tolerance is None else tolerance
    rule = f"{floor.nominal:.2f} dB on DIV2K validation less {slack:.2f} dB"
    rule += f": {floor.note}" if floor.note else ""
    verdict = {
        None: f"not decided: PSNR was taken on {', '.join(bench.data.val_names)}; type data=div2k",
        True: "admitted",
        False: f"not admitted ({row['psnr_rgb']} dB)",
    }[placing["admitted"]]
    text = sentence(placing)
    placing |= {"sentence": text, "admission": f"{verdict} ({rule})", "figures": entrant}
    if "ave_time_ms" in entrant:
        placing["runtime"] = (
            f"{row['runtime_ratio']:.3f} of {bench.terms.reference} in this process, times "
            f"its published time: {entrant['ave_time_ms']:.2f} ms"
        )
    for name in ("sentence", "runtime", "admission"):
        if name in placing:
            say(f"{name:<10}{placing[name]}")
    return row, placing


def _line(row: Mapping[str, Any]) -> str:
    name = f"{row['slug']:<16}"
    if row.get("params_m") is None:
        return f"{name} {row['status']}"
    parts = [f"{row['psnr_rgb']:.2f} dB"] if row.get("psnr_rgb") is not None else [row["status"]]
    if row.get("runtime_ratio") is not None:
        parts.append(f"{row['ave_time_ms']:.1f} ms ({row['runtime_ratio']:.2f} of the reference)")
    return f"{name} {', '.join(parts)}, {row['params_m']:.3f} M, {row['flops_g']:.2f} G"


def _fingerprint(terms: Terms, sha256: str | None) -> str:
    text = json.dumps([dataclasses.asdict(terms), sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
