"""RLFN's official weights pruned by 25 % of its FLOPs and fine-tuned, by several importances.

Each importance leaves a network of exactly the same shape, so that only the choice of channels
differs. PSNR-Y on a benchmark set after pruning and after fine-tuning for a bounded CPU time. The
random choice is the baseline, and one draw says little: it is made three times.

    python benchmarks/pruning.py --photos PHOTOS --set5 SET5 [--seconds 300] [--runtime 0.8]

SET5 holds HR and LR_bicubic/X4. `--runtime` also prunes to a share of the time and measures again.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from esr.config import build, compose, plain
from esr.evaluation.measure import fidelity
from esr.files import write_json
from esr.metrics.complexity import complexity
from esr.provenance import provenance
from esr.surgery import importance
from esr.surgery.prune import Prune
from esr.surgery.timing import time_ratio
from esr.zoo import catalogue as zoo

IMPORTANCES = {
    "taylor": importance.Taylor(),
    "random": importance.Random(),
    "magnitude": importance.Magnitude(),
    "activation": importance.Activation(),
    "loss_change": importance.LossChange(),
    "random_1": importance.Random(seed=1),
    "random_2": importance.Random(seed=2),
}


def score(net: nn.Module, data: Any) -> float:
    """PSNR-Y of the validation set."""
    return fidelity(net.eval(), data, torch.device("cpu"))["val/psnr_y"]


def fine_tune(net: nn.Module, data: Any, seconds: float, lr: float) -> int:
    """Train with L1 until `seconds` of CPU time are used; the rate falls along a cosine to zero."""
    torch.manual_seed(0)
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr)
    started, steps = time.process_time(), 0
    for raw in data.train_dataloader():
        used = (time.process_time() - started) / seconds
        if used >= 1:
            break
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + torch.cos(torch.tensor(used * 3.14159)))
        batch = data.on_after_batch_transfer(raw, 0)
        optimizer.zero_grad(set_to_none=True)
        F.l1_loss(net(batch["lr"]), batch["hr"]).backward()
        optimizer.step()
        steps += 1
    return steps


def main() -> None:
    """Measure and write benchmarks/results/pruning_cpu.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--set5", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--only", nargs="*", default=list(IMPORTANCES))
    parser.add_argument("--runtime", type=float)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()

    net = zoo.load("ntire2022/rlfn")
    config = plain(compose("train", ["ntire2022=rlfn"]).model)
    overrides = [
        f"data.train.hr={args.photos}",
        f"data.val.hr={args.set5}/HR",
        f"data.val.lr={args.set5}/LR_bicubic/X4",
        "data.patch_size=192",
        "data.batch_size=8",
        "data.samples_per_epoch=1000000",  # one epoch outlasts the time
    ]
    data = build(compose("train", ["data=folder", "name=x", *overrides]).data)
    data.prepare_data()
    data.setup("fit")

    result: dict[str, Any] = {
        "what": (__doc__ or "").splitlines()[0],
        "protocol": {
            "target": {"flops": 0.75},
            "spread": "uniform",
            "calibration": "16 training patches of 48x48 LR pixels",
            "fine_tuning": f"L1, Adam {args.lr} along a cosine, batch 8 of 192 HR pixels, "
            f"{args.seconds:.0f} s of CPU time, {torch.get_num_threads()} threads",
            "score": "PSNR-Y, 8-bit, border 4, mean of images",
        },
        **provenance(torch.device("cpu")),
        "original": {"psnr_y": score(net, data), "flops": complexity(net).flops},
        "importances": {},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "pruning_cpu.json"
    if args.runtime:
        _, smaller = Prune({"runtime": args.runtime})(net, config)
        again = [time_ratio(smaller, config, (128, 128), "cpu") for _ in range(3)]
        result["runtime"] = {"wanted": args.runtime, "widths": smaller, "measured_again": again}
        print(result["runtime"], flush=True)
    nets = {}
    for name in args.only:
        started = time.process_time()
        pruned, smaller = Prune({"flops": 0.75}, importance=IMPORTANCES[name])(net, config, data)
        nets[name] = pruned
        result["importances"][name] = {
            "widths": {k: smaller[k] for k in ("width", "mid", "esa_width")},
            "flops": complexity(pruned).flops,
            "pruning_seconds": round(time.process_time() - started, 1),
            "psnr_y_pruned": score(pruned, data),
        }
        print(name, result["importances"][name], flush=True)
        write_json(path, result)
    for name in args.only if args.seconds else ():
        row = result["importances"][name]
        row["steps"] = fine_tune(nets[name], data, args.seconds, args.lr)
        row["psnr_y_tuned"] = score(nets[name], data)
        print(name, row, flush=True)
        write_json(path, result)


if __name__ == "__main__":
    main()
