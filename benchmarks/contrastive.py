"""What the contrastive loss does: RLFN from the same warm start with and without it, several seeds.

    python benchmarks/contrastive.py --photos FOLDER --set5 FOLDER
    python benchmarks/contrastive.py --photos FOLDER --set5 FOLDER --start ntire2022/rlfn --lr 1e-4

A recipe per seed: `scratch` with L1 (or released weights); then from its last weights `plain`, L1
again, and the same with the contrastive loss at each weight. Steps, seeds, patches and schedule are
equal, so that the difference to `plain` at the end is what the loss did. Validation is Set5; curves
go into a csv and a picture, the summary into JSON. Started again, it goes on where it was.
"""

import argparse
import csv
import json
import statistics
from pathlib import Path

from esr.commands import train as stages
from esr.config import compose
from esr.provenance import provenance

KEYS = ("val/psnr_y", "val/psnr_rgb", "val/ssim_y")


def words(arguments: argparse.Namespace, seed: int, folder: Path) -> list[str]:
    """The overrides of one recipe."""
    length = f"'trainer.max_steps={arguments.steps}'"
    origin = arguments.start or "scratch"
    scratch = f"+stages.scratch={{overrides: ['trainer.max_steps={arguments.scratch}']}}"
    return [
        "model=rlfn",
        "data=folder",
        "data.store=ram",
        f"data.train.hr={arguments.photos.resolve()}",
        f"data.val.hr={arguments.set5.resolve() / 'HR'}",
        f"data.val.lr={arguments.set5.resolve() / 'LR_bicubic' / 'X4'}",
        f"data.patch_size={arguments.patch}",
        f"data.batch_size={arguments.batch}",
        f"data.samples_per_epoch={arguments.batch * max(1, arguments.steps // 4)}",
        "trainer=cpu" if arguments.cpu else "trainer=auto",
        "trainer.log_every_n_steps=10",
        "callbacks.evaluation.seconds=0",
        "callbacks.images=null",
        f"seed={seed}",
        f"run={folder}",
        f"optim.lr={arguments.lr}",
        *(["model.data_range=255"] if arguments.start else [scratch]),
        f"+stages.plain={{init: {origin}, weights: last, overrides: [{length}]}}",
        *(
            f"+stages.{name(weight)}={{init: {origin}, weights: last, overrides: "
            f"[{length}, 'loss=[l1,contrastive]', 'loss.contrastive.weight={weight}', "
            f"'loss.contrastive.data_range={arguments.range}']}}"
            for weight in arguments.weights
        ),
    ]


def name(weight: float) -> str:
    """The stage of one weight of the contrastive loss."""
    return f"contrastive_{weight:g}".replace(".", "p")


def curve(folder: Path) -> list[dict[str, str]]:
    """The rows of a stage's log that hold a validation."""
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("val/psnr_y")]


def picture(rows: list[dict[str, str]], arms: list[str], start: int, path: Path) -> None:
    """Draw PSNR-Y over the steps, one line a seed and arm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    colours = {arm: f"C{place}" for place, arm in enumerate(a for a in arms if a != "scratch")}
    for arm in arms:
        for number, seed in enumerate(sorted({row["seed"] for row in rows})):
            points = [row for row in rows if row["arm"] == arm and row["seed"] == seed]
            offset = 0 if arm == "scratch" else start
            axes.plot(
                [int(point["step"]) + 1 + offset for point in points],
                [float(point["psnr_y"]) for point in points],
                color=colours.get(arm, "0.5"),
                linewidth=1.2,
                label=arm if number == 0 else None,
            )
    axes.set_xlabel("optimiser steps")
    axes.set_ylabel("PSNR-Y on Set5, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--set5", type=Path, required=True, help="with HR/ and LR_bicubic/X4/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of a warm start")
    parser.add_argument("--scratch", type=int, default=1000, help="steps of the first stage")
    parser.add_argument("--start", help="released weights instead of a first stage")
    parser.add_argument("--range", type=float, default=1, help="the extractor's data range")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0, 0.01])
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs/contrastive"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()

    arms = [*([] if arguments.start else ["scratch"]), "plain", *map(name, arguments.weights)]
    file_name = "contrastive_released" if arguments.start else "contrastive"
    file_name += "" if arguments.range == 1 else f"_{arguments.range:g}"
    rows: list[dict[str, str]] = []
    for seed in range(arguments.seeds):
        folder = arguments.runs.resolve() / f"seed{seed}"
        typed = words(arguments, seed, folder)
        stages.run(compose("train", typed), typed)
        for arm in arms:
            rows += [
                {"seed": str(seed), "arm": arm, "step": row["step"]}
                | {key.partition("/")[2]: row.get(key, "") for key in KEYS}
                for row in curve(folder / arm)
            ]
    final = {
        arm: [
            float(
                [row for row in rows if row["seed"] == str(seed) and row["arm"] == arm][-1][
                    "psnr_y"
                ]
            )
            for seed in range(arguments.seeds)
        ]
        for arm in arms
    }
    gains = {
        arm: [b - a for a, b in zip(final["plain"], final[arm], strict=True)]
        for arm in map(name, arguments.weights)
    }
    result = {
        "what": "PSNR-Y on Set5 after equal steps from the same warm start, without and with",
        "protocol": {
            key: str(value)
            for key, value in vars(arguments).items()
            if key
            in ("seeds", "scratch", "start", "range", "lr", "steps", "patch", "batch", "weights")
        },
        "psnr_y": final,
        "gain_db": {
            arm: {
                "by_seed": values,
                "mean": statistics.mean(values),
                "stdev": statistics.stdev(values) if len(values) > 1 else None,
            }
            for arm, values in gains.items()
        },
        **provenance("cpu"),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / f"{file_name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (arguments.out / f"{file_name}.json").write_text(json.dumps(result, indent=2) + "\n")
    picture(
        rows, arms, 0 if arguments.start else arguments.scratch, arguments.out / f"{file_name}.svg"
    )
    print(json.dumps(result["gain_db"], indent=2))


if __name__ == "__main__":
    main()
