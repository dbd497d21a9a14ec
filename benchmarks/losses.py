"""What share of an RLFN training step the contrastive loss takes, per width of its extractor.

A step is forward, loss, backward and Adam, on random HR patches that lie on the device. The same
batch is used with L1 alone and with L1 + contrastive, in turns, so that a machine's drift hits
both; the share is `(with - without) / with`, over the medians.

    python benchmarks/losses.py                      HR 256, batch 16, as in the winner's recipe
    python benchmarks/losses.py --batch 4 --steps 5  where memory or time is short
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from esr.config import build, compose
from esr.losses.contrastive import Contrastive
from esr.losses.pixel import L1
from esr.losses.weighted import WeightedLoss
from esr.provenance import provenance

WIDTHS = (3, 8, 16, 32, 64)


def step_time(net, loss, optimizer, batch) -> float:
    """Seconds of one training step."""
    device = batch["hr"].device
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    optimizer.zero_grad(set_to_none=True)
    loss(net(batch["lr"]), batch["hr"], batch["lr"]).backward()
    optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", default="rlfn")
    parser.add_argument("--patch", type=int, default=256, help="HR pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each kind")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    torch.manual_seed(0)
    if device.type == "cpu":
        torch.set_num_threads(1)
    net = build(compose(overrides=[f"model={arguments.model}"]).model).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-4)
    hr = torch.rand(arguments.batch, 3, arguments.patch, arguments.patch, device=device)
    batch = {"hr": hr, "lr": torch.nn.functional.avg_pool2d(hr, net.scale)}
    losses = {"l1": WeightedLoss({"l1": L1()})} | {
        str(width): WeightedLoss({"l1": L1(), "contrastive": Contrastive(widths=(width, width))})
        for width in WIDTHS
    }
    times: dict[str, list[float]] = {name: [] for name in losses}
    for turn in range(arguments.steps + 1):
        for name, loss in losses.items():
            seconds = step_time(net, loss.to(device), optimizer, batch)
            if turn:  # the first is a warm-up
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    shares = {
        name: (value - medians["l1"]) / value for name, value in medians.items() if name != "l1"
    }
    facts = provenance(device)
    result = {
        "what": "share of the contrastive loss in a training step, by extractor width",
        "protocol": {
            "model": arguments.model,
            "hr_patch": arguments.patch,
            "batch": arguments.batch,
            "steps": arguments.steps,
            "threads": torch.get_num_threads(),
            "dtype": "float32",
            "clock": "wall, synchronised" if device.type == "cuda" else "CPU time of the process",
            "statistic": "median, kinds in turns, one warm-up step",
        },
        "step_ms": {name: round(1000 * value, 2) for name, value in medians.items()},
        "share": {name: round(value, 4) for name, value in shares.items()},
        **facts,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"losses_{device.type}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for name, share in shares.items():
        print(f"width {name:>3}: {share:6.1%} of {1000 * medians[name]:.0f} ms")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
