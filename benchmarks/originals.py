"""CPU time of challenge entries beside their originals' forms, on one machine.

Ratios between entries differ from machine to machine, so times of the original code taken
elsewhere (see entries_cpu.py) cannot say whether an entry here is slower than its original. This
can: both hold the same weights, their outputs are compared (`difference`), and they take turns on
one image. `median` is that of the turns' ratios here / original, `min` the ratio of the smallest
times.

    python benchmarks/originals.py            all of original_forms.py, minutes
    python benchmarks/originals.py rfdn bsrn
"""

import argparse
import json
from pathlib import Path

import torch
from cpu_time import in_turns
from original_forms import ORIGINALS, original

from esr.metrics.hardware import keep_memory
from esr.models.network import Network
from esr.provenance import provenance
from esr.zoo import catalogue as zoo

OUT = Path(__file__).parent / "results" / "originals_cpu.json"
PROTOCOL = "1x3x128x128 float32, 1 thread, CPU time, freed memory kept, in turns"


@torch.inference_mode()
def compare(slug: str, turns: int) -> dict[str, float]:
    name = f"ntire2022/{slug}"
    net = zoo.load(name, weights=None)
    assert isinstance(net, Network)
    prefix = zoo.entry(name).prefix
    official = {k.removeprefix(prefix): v for k, v in zoo.export_official(net, name).items()}
    form, data_range = original(slug, official), net.data_range
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    scaled = image * data_range
    difference = (net(image) - form(scaled) / data_range).abs().max().item()
    taken = in_turns(lambda: net(image), lambda: form(scaled), turns)
    return {
        "cpu_ms": round(taken.first_ms, 1),
        "original_ms": round(taken.second_ms, 1),
        "median": round(taken.median, 3),
        "min": round(taken.min, 3),
        "difference": float(f"{difference:.1e}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slugs", nargs="*", help="all without any")
    parser.add_argument("--turns", type=int, default=24)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    keep_memory()
    rows = {}
    for slug in arguments.slugs or ORIGINALS:
        rows[slug] = compare(slug, arguments.turns)
        print(f"{slug:16} {rows[slug]}", flush=True)
    result = {"protocol": PROTOCOL, "turns": arguments.turns, **provenance(), "entries": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
