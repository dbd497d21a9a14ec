"""RLFN trained plain, as ECB and as RRRB: same photographs, steps, seeds and learning rate.

Every run is what `python train.py` does. Compared is the merged network on held-out photographs,
the same plain RLFN in all three cases, and the training loss on the way. The blocks are trained
collapsed, which is the same function and gradient at less cost. Finished runs are not repeated.

    python benchmarks/reparam_training.py --photos FOLDER
"""

import argparse
import csv
import json
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch

from esr.commands import train as stages
from esr.config import compose

FORMS = {
    "plain": ["conv=plain"],
    "ecb": ["conv=ecb", "model.conv.collapsed=true"],
    "rrrb": ["conv=rrrb", "model.conv.collapsed=true"],
}
KEYS = ("val/psnr_rgb", "val/psnr_y", "val/ssim_y")
WINDOW = 50  # steps, of the training loss that is told


def train(form: str, seed: int, arguments: argparse.Namespace) -> Path:
    run = arguments.runs / f"{form}_{seed}"
    if not (run / "result.json").is_file():
        overrides = [
            "model=rlfn",
            *FORMS[form],
            "data=folder",
            f"data.train.hr={arguments.photos.resolve()}",
            f"data.patch_size={arguments.patch}",
            f"data.batch_size={arguments.batch}",
            f"data.samples_per_epoch={arguments.batch * arguments.steps}",
            "optim.lr=5e-4",
            f"trainer.max_steps={arguments.steps}",
            "trainer=cpu",
            "trainer.check_val_every_n_epoch=1000",
            f"trainer.log_every_n_steps={arguments.every}",
            "callbacks.evaluation.seconds=0",
            "callbacks.images=null",
            f"seed={seed}",
            f"name={form}",
            f"run={run.resolve()}",
        ]
        stages.run(compose("train", overrides), overrides)
    return run


def losses(run: Path) -> dict[int, float]:
    """The training loss by step."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return {int(row["step"]) + 1: float(row["train/loss"]) for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=5, help="steps between two logged losses")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=64, help="HR pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/reparam_training"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    rows, curves = [], {}
    bicubic: dict[str, float] = {}
    for seed in range(arguments.seeds):
        for form in FORMS:
            run = train(form, seed, arguments)
            result = json.loads((run / "result.json").read_text())
            bicubic = result["bicubic"]
            curve = curves[form, seed] = losses(run)
            tail = [loss for step, loss in curve.items() if step > arguments.steps - WINDOW]
            values = {key.removeprefix("val/"): round(result["metrics"][key], 4) for key in KEYS}
            rows.append(
                {"form": form, "seed": seed, "steps": arguments.steps, **values}
                | {"train_l1_last": round(mean(tail), 5)}
            )
    values = {key.removeprefix("val/"): round(bicubic[key], 4) for key in KEYS}
    rows.append({"form": "bicubic", "seed": "", "steps": "", **values, "train_l1_last": ""})
    table = arguments.out / "reparam_training.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, curves, arguments)
    for form in FORMS:
        last = [row["psnr_rgb"] for row in rows if row["form"] == form]
        print(f"{form:<8} {mean(last):.3f} dB ({min(last):.3f} .. {max(last):.3f})")
    print(f"bicubic  {bicubic[KEYS[0]]:.3f} dB; written to {table}")


def draw(rows, curves, arguments: argparse.Namespace) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    span = max(1, WINDOW // arguments.every)
    for position, form in enumerate(FORMS):
        mine = [curves[form, seed] for seed in range(arguments.seeds)]
        steps = sorted(mine[0])
        means = [mean(curve[step] for curve in mine) for step in steps]
        smooth = [mean(means[max(0, i - span + 1) : i + 1]) for i in range(len(means))]
        left.plot(steps, smooth, label=form)
        points = [row["psnr_rgb"] for row in rows if row["form"] == form]
        right.plot([position] * len(points), points, "o")
    left.set(xlabel="optimiser steps", ylabel=f"training L1, mean of {WINDOW} steps", yscale="log")
    left.legend()
    right.axhline(rows[-1]["psnr_rgb"], color="grey", linestyle="--")
    right.text(0.02, 0.02, "dashed: bicubic", transform=right.transAxes, color="grey")
    right.set(ylabel="PSNR RGB [dB], held-out photographs", xlim=(-0.5, len(FORMS) - 0.5))
    right.set_xticks(range(len(FORMS)), FORMS)
    figure.suptitle(f"RLFN x4 after {arguments.steps} steps, {arguments.seeds} seeds each")
    figure.savefig(arguments.out / "reparam_training.png", dpi=100)


if __name__ == "__main__":
    main()
