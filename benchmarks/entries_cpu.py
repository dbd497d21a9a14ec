"""CPU time of every challenge entry's forward pass beside the original code's, relative to RLFN.

One 128x128 image, one thread, CPU time; an entry and RLFN take turns, so that a machine's drift
hits both, and the median of the turns' ratios counts. The originals were timed on another machine,
so only the ratios to RLFN compare: `relative` is (entry / RLFN) / (original entry / original RLFN).
It says little alone: RFDN and its dilated form are the same code, yet come out at 0.7 and 1.2
between an AMD EPYC and the originals' machine. Where it exceeds 1, originals.py tells an entry that
is slow from one that this machine does not suit.
FILE is a list of `{"slug": ..., "cpu_ms_128": {"cpu_t1": milliseconds}}`.

    python benchmarks/entries_cpu.py --originals FILE            all of them, minutes
    python benchmarks/entries_cpu.py --originals FILE rfdn fmen
"""

import argparse
import json
from pathlib import Path

import torch
from cpu_time import in_turns

from esr.metrics.hardware import keep_memory
from esr.provenance import provenance
from esr.zoo import catalogue as zoo

OUT = Path(__file__).parent / "results" / "entries_cpu.json"
PROTOCOL = "1x3x128x128 float32, 1 thread, CPU time, freed memory kept, median over turns with RLFN"


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slugs", nargs="*", help="all entries if none is named")
    parser.add_argument("--originals", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    keep_memory()
    records = json.loads(arguments.originals.read_text())
    originals = {r["slug"]: r["cpu_ms_128"]["cpu_t1"] for r in records if r.get("cpu_ms_128")}
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    reference = zoo.load("ntire2022/rlfn", weights=None)
    rows = {}
    for slug in arguments.slugs or sorted(originals):
        net = zoo.load(f"ntire2022/{slug}", weights=None)
        taken = in_turns(lambda net=net: net(image), lambda: reference(image), arguments.turns)
        original = originals[slug] / originals["rlfn"]
        rows[slug] = {
            "cpu_ms": round(taken.first_ms, 1),
            "ratio": round(taken.median, 3),
            "original_ratio": round(original, 3),
            "relative": round(taken.median / original, 3),
        }
        print(f"{slug:16} {rows[slug]}", flush=True)
    result = {"protocol": PROTOCOL, "turns": arguments.turns, **provenance(), "entries": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
