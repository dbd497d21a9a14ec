"""CPU time of every challenge entry's forward pass beside the original code's, relative to RLFN.

One 128x128 image, one thread, CPU time; an entry and RLFN take turns, so that a machine's drift
hits both, and the smallest time of each counts. The originals were timed on another machine, so
only the ratios to RLFN compare: `relative` is (entry / RLFN) / (original entry / original RLFN).
Read it with care: RFDN and its dilated form are the same code, yet come out at 0.7 and 1.3 between
an AMD EPYC and the originals' machine.
FILE is a list of `{"slug": ..., "cpu_ms_128": {"cpu_t1": milliseconds}}`.

    python benchmarks/entries_cpu.py --originals FILE            all of them, minutes
    python benchmarks/entries_cpu.py --originals FILE rfdn fmen
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from esr import zoo
from esr.provenance import provenance

OUT = Path(__file__).parent / "results" / "entries_cpu.json"


def cpu_ms(net: nn.Module, image: torch.Tensor) -> float:
    """CPU milliseconds of one forward pass."""
    started = time.process_time()
    net(image)
    return 1e3 * (time.process_time() - started)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slugs", nargs="*", help="all entries if none is named")
    parser.add_argument("--originals", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    records = json.loads(arguments.originals.read_text())
    originals = {r["slug"]: r["cpu_ms_128"]["cpu_t1"] for r in records if r.get("cpu_ms_128")}
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    reference = zoo.load("ntire2022/rlfn", weights=None)
    rows = {}
    for slug in arguments.slugs or sorted(originals):
        net = zoo.load(f"ntire2022/{slug}", weights=None)
        times = [(cpu_ms(net, image), cpu_ms(reference, image)) for _ in range(arguments.repeats)]
        ours, rlfn = (min(column) for column in zip(*times, strict=True))
        ratio, original = ours / rlfn, originals[slug] / originals["rlfn"]
        rows[slug] = {
            "cpu_ms": round(ours, 1),
            "ratio": round(ratio, 3),
            "original_ratio": round(original, 3),
            "relative": round(ratio / original, 3),
        }
        print(f"{slug:16} {rows[slug]}", flush=True)
    protocol = "1x3x128x128 float32, 1 thread, CPU time, minimum over turns with RLFN"
    result = {"protocol": protocol, "repeats": arguments.repeats, **provenance(), "entries": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
