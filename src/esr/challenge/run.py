"""A whole challenge at once: every released entry measured in one process, beside the published.

Each entry's result is a file of its own, written when it is done, so a run that was broken off
goes on where it was when the same command is typed again. Entries are measured by the same
functions as a single network; runtimes are set against a reference entry in the same process,
because milliseconds do not travel between devices.
"""

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor, nn

from esr.challenge.places import number, place, sentence
from esr.challenge.rules import Edition, edition
from esr.challenge.tables import METRICS, correlation, measured_places, published_rows, write
from esr.config import build
from esr.errors import UserError
from esr.evaluation import measure as evaluation
from esr.evaluation.selection import Selection, choose_device, select
from esr.evaluation.tiling import Tiling, Upscaler
from esr.files import write_json
from esr.metrics import memory, runtime
from esr.metrics.complexity import COUNTERS, complexity
from esr.provenance import provenance
from esr.surgery.fuse import fuse
from esr.training.datamodule import SRData
from esr.zoo import entries as zoo

SOURCES = ("measured", "published")

console = Console()


@dataclasses.dataclass(frozen=True)
class Protocol:
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
        ("protocol", cfg.protocol, runtime.PROTOCOLS),
    ):
        if value not in known:
            raise UserError(f"{name} '{value}' is unknown; there are: {', '.join(known)}")
    if rules.collection is None:
        raise UserError(
            f"the entries of {rules.title} are not part of this package, only its rules: give "
            f"their figures to esr.challenge.places.rank(rows, challenge='{rules.name}')"
        )
    found = zoo.entries(rules.collection)
    if cfg.source == "published":
        folder = Path(cfg.folder or Path(cfg.output) / f"{rules.name}_published")
        write(folder, published_rows(found, rules, cfg.tolerance), rules, {"source": "published"})
        return None
    return _measured(cfg, rules, found)


def _measured(cfg: DictConfig, rules: Edition, found: Sequence[zoo.Entry]) -> float | None:
    device = choose_device(cfg.device)
    own = select(cfg) if cfg.checkpoint is not None else None
    data: SRData = build(cfg.data)
    for images in data.val_sets.values():
        images.prepare(data.scale)
    data.setup("validate")
    inputs = _inputs(data)
    facts = provenance(device)
    protocol = Protocol(
        cfg.counter, cfg.protocol, cfg.seconds, cfg.reference, cfg.weights, data.checksum(),
        len(inputs), facts["device"]["name"], torch.__version__,
    )  # fmt: skip
    sets = "-".join(data.val_names)
    default = Path(cfg.output) / f"{rules.name}_{sets}_{device.type}_{cfg.protocol}"
    folder = Path(cfg.folder or default)
    (folder / "entries").mkdir(parents=True, exist_ok=True)
    _say(f"{rules.title} on {sets} ({len(inputs)} images), {facts['device']['name']}")
    _say(f"protocol  {cfg.protocol} runtime against {cfg.reference}, counter {cfg.counter}")
    reference = zoo.load(cfg.reference, weights=None).to(device)

    measure = _Measure(cfg, protocol, data, inputs, device, reference, folder / "entries")
    rows = []
    started, measured = time.perf_counter(), 0
    for position, entry in enumerate(found, 1):
        before = time.perf_counter()
        row = measure.entry(entry)
        rows.append(row)
        measured += time.perf_counter() - before > 0.5
        each = (time.perf_counter() - started) / max(measured, 1)
        left = f", at most {each * (len(found) - position):.0f} s left" if measured else ""
        _say(f"{position:2d}/{len(found)} {_line(row)}{left}")
    if absent := sum(row["status"] == "weights absent" for row in rows):
        _say(
            f"{absent} entries have no official weights in {zoo.weights_folder(cfg.weights_folder)}"
            " (weights_folder=FOLDER); weights=null measures the cost of all with random ones"
        )
    measured_places(rows, rules, cfg.tolerance)
    record: dict[str, Any] = {
        "source": "measured",
        "protocol": dataclasses.asdict(protocol) | {"folder": sets},
        "spearman": {"ave_time_ms": correlation(rows)},
        **facts,
    }
    value = None
    if own is not None:
        row, placing = _own(own, measure, rules, found, cfg.tolerance)
        rows.append(row)
        record["own"] = {"row": row, "placing": placing}
        value = row.get("psnr_rgb")
    write(folder, rows, rules, record)
    return value


class _Measure:
    """Measures one network after the other, and remembers what was measured."""

    def __init__(
        self,
        cfg: DictConfig,
        protocol: Protocol,
        data: SRData,
        inputs: Sequence[Tensor],
        device: torch.device,
        reference: nn.Module,
        folder: Path,
    ):
        self.cfg, self.protocol, self.data, self.inputs = cfg, protocol, data, inputs
        self.device, self.reference, self.folder = device, reference, folder

    def entry(self, found: zoo.Entry) -> dict[str, Any]:
        """The row of an entry: measured now or earlier, or why there is nothing to measure."""
        row = {"team": found.team, "slug": found.slug, "status": "measured"}
        published = found.published or {}
        row |= {f"published_{key}": number(published.get(key)) for key in METRICS}
        row |= {f"published_{key}": number(published.get(key)) for key in ("psnr_val", "psnr_test")}
        row |= {
            f"published_{t}": number(published.get(f"{t}_rank")) for t in ("main", "sub1", "sub2")
        }
        row["note"] = found.note
        random = self.cfg.weights is None
        if not found.released and not random:
            return row | {"status": "not released"}
        if not random and not zoo.at_hand(found, self.cfg.weights_folder):
            return row | {"status": "weights absent"}
        path = self.folder / f"{found.slug}.json"
        mark = _fingerprint(self.protocol, None if random else found.sha256)
        if path.is_file() and (earlier := json.loads(path.read_text())).get("mark") == mark:
            return row | earlier["figures"]
        try:
            net = zoo.load(
                found.name, None if random else "official", folder=self.cfg.weights_folder
            )
            tiling = None
            if found.tile is not None:
                tiling = Tiling(int(found.tile["size"]), int(found.tile["overlap"]), "average")
            figures, record = self.network(net, tiling, not random, found.unused_params)
        except UserError as error:
            return row | {"status": f"failed: {error}" if found.released else "not released"}
        write_json(path, {"mark": mark, "figures": figures, **record})
        return row | figures

    def network(
        self, net: nn.Module, tiling: Tiling | None, scored: bool = True, unused: int = 0
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Figures by the names of published.csv, and how each was measured.

        Published parameter counts include what the official file carries without using it:
        `unused` parameters, which our network does not have.
        """
        net = fuse(net).to(self.device).eval()
        scale = self.data.scale
        found: dict[str, Any] = {"status": "measured" if scored else "random weights"}
        static = complexity(net, (256, 256), self.protocol.counter)
        runner = net if tiling is None else Upscaler(net, scale, self.device, tiling)
        if scored:
            scores = _finite(evaluation.fidelity(runner, self.data, self.device))
            found |= scores
            if None in scores.values():
                found |= {"status": "output not finite", "note": "the output is not finite"}
        timed, used = None, None
        if self.protocol.seconds != 0:
            used = memory.measure(runner, self.inputs, self.device)
            timed = runtime.measure(
                runner,
                self.inputs,
                self.device,
                self.protocol.runtime,
                self.reference,
                self.protocol.seconds,
            )
        found |= {
            "ave_time_ms": timed and timed.ms,
            "runtime_ratio": timed and timed.ratio,
            "params_m": (static.params + unused) / 1e6,
            "unused_params_m": (static.unused_params + unused) / 1e6,
            "flops_g": static.flops / 1e9,
            "acts_m": static.acts / 1e6,
            "mem_m": used and used.peak,
            "convs": static.convs,
        }
        cost = evaluation.Efficiency(static, timed, used, self.protocol.reference)
        return found, {"efficiency": cost.record(), "scale": scale}


def _own(
    chosen: Selection,
    measure: _Measure,
    rules: Edition,
    found: Sequence[zoo.Entry],
    tolerance: float | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of one's own network and where it would have come in the published table."""
    if chosen.scale != measure.data.scale:
        raise UserError(f"{chosen.name} is x{chosen.scale}, the challenge x{measure.data.scale}")
    figures, _ = measure.network(chosen.net, chosen.tiling)
    row = {"team": chosen.name, "slug": None, **figures, "status": "own"}
    published = {f.name: f.published for f in found if f.published}
    entrant = {key: row[key] for key in METRICS if key != "ave_time_ms"}
    reference = published.get(measure.protocol.reference)
    if row["runtime_ratio"] is not None and reference is not None:
        # Milliseconds of another GPU mean nothing here; the ratio does.
        entrant["ave_time_ms"] = row["runtime_ratio"] * float(reference["ave_time_ms"])
    if _is_div2k_valid(measure.data):
        entrant["psnr_val"] = row["psnr_rgb"]
    competitors = [p for p in published.values() if p["main_rank"]]
    placing = place(entrant, competitors, rules.name, tolerance)
    floor = rules.floors["psnr_val"]
    slack = floor.tolerance if tolerance is None else tolerance
    rule = (
        f"{floor.nominal:.2f} dB on DIV2K validation less {slack:.2f} dB: entries down to 28.95 dB "
        "were ranked"
    )
    verdict = {
        None: f"not decided: PSNR was taken on {', '.join(measure.data.val_names)}; "
        "type data=div2k",
        True: "admitted",
        False: f"not admitted ({row['psnr_rgb']} dB)",
    }[placing["admitted"]]
    text = sentence(placing)
    placing |= {"sentence": text, "admission": f"{verdict} ({rule})", "figures": entrant}
    if "ave_time_ms" in entrant:
        placing["runtime"] = (
            f"{row['runtime_ratio']:.3f} of {measure.protocol.reference} in this process, times "
            f"its published time: {entrant['ave_time_ms']:.2f} ms"
        )
    for name in ("sentence", "runtime", "admission"):
        if name in placing:
            _say(f"{name:<10}{placing[name]}")
    return row, placing


def _line(row: Mapping[str, Any]) -> str:
    name = f"{row['slug']:<16}"
    if row.get("params_m") is None:
        return f"{name} {row['status']}"
    parts = [f"{row['psnr_rgb']:.2f} dB"] if row.get("psnr_rgb") is not None else [row["status"]]
    if row.get("runtime_ratio") is not None:
        parts.append(f"{row['ave_time_ms']:.1f} ms ({row['runtime_ratio']:.2f} of the reference)")
    return f"{name} {', '.join(parts)}, {row['params_m']:.3f} M, {row['flops_g']:.2f} G"


def _finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores of the first set under short keys; None where the output was not finite."""
    return {
        key: None if scores[f"val/{key}"] != scores[f"val/{key}"] else scores[f"val/{key}"]
        for key in evaluation.SCORES
    }


def _inputs(data: SRData) -> list[Tensor]:
    return [batch["lr"] for batch in data.val_dataloader()[0]]


def _is_div2k_valid(data: SRData) -> bool:
    names = sorted(batch["name"][0] for batch in data.val_dataloader()[0])
    digits = [re.sub(r"\D.*", "", name) for name in names]
    return digits == [f"{n:04d}" for n in range(801, 901)]


def _fingerprint(protocol: Protocol, sha256: str | None) -> str:
    text = json.dumps([dataclasses.asdict(protocol), sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
