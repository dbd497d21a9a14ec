"""What a recipe is about to do, before it does it: steps, images and how long they will take."""

import json
import time
from collections.abc import Mapping, Sequence

import torch
from rich import box
from rich.table import Table

from esr.config import build, plain
from esr.console import say, show_table
from esr.provenance import describe_device
from esr.recipes.jobs import Job
from esr.recipes.stages import largest


def show(jobs: Sequence[Job], actions: Mapping[str, str]) -> None:
    """Print one line a stage and the sum; `actions` says which are trained, resumed, skipped."""
    wants_gpu = jobs[0].cfg.trainer.accelerator != "cpu"
    device = torch.device("cuda" if wants_gpu and torch.cuda.is_available() else "cpu")
    title = f"{jobs[0].folder.parent.name}: {len(jobs)} stages"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("stage", "from", "loss"):
        table.add_column(column)
    for column in ("steps", "batch", "patch", "images", "about"):
        table.add_column(column, justify="right", no_wrap=True)
    speeds: dict[str, float] = {}
    seconds = 0.0
    for job in jobs:
        cfg, action = job.cfg, actions[job.name]
        steps, batch = cfg.trainer.max_steps, largest(cfg.data.batch_size)
        images = steps * batch * cfg.trainer.accumulate_grad_batches
        needed = 0.0
        if action != "skip" and steps > 0:
            key = json.dumps([plain(cfg.model), plain(cfg.data.patch_size)])
            if key not in speeds:
                speeds[key] = seconds_per_image(job, device)
            needed = images * speeds[key]
        seconds += needed
        table.add_row(
            job.name,
            job.stage.init or "scratch",
            " + ".join(str(name) for name in cfg.loss),
            f"{steps:,}",
            str(batch),
            str(largest(cfg.data.patch_size)),
            f"{images / 1e6:.1f} M" if images >= 1e6 else f"{images:,}",
            {"skip": "finished", "resume": "goes on"}.get(action, duration(needed)),
        )
    show_table(table)
    if seconds:
        name = describe_device(device)["name"]
        say(f"about {duration(seconds)} on one {name}, at the speed just measured, no validation")


def seconds_per_image(job: Job, device: torch.device) -> float:
    """Measured time of forward and backward per patch, in a batch of a third of a second."""
    cfg = job.cfg
    with torch.random.fork_rng(devices=[]):
        net = build(cfg.model).to(device)
    side, largest_batch = largest(cfg.data.patch_size) // cfg.scale, largest(cfg.data.batch_size)
    net(torch.rand(1, 3, side, side, device=device)).mean().backward()  # warm-up
    batch = 1
    while True:
        x = torch.rand(batch, 3, side, side, device=device)
        started = time.perf_counter()
        net(x).mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.perf_counter() - started
        if spent > 0.3 or batch >= largest_batch:
            return spent / batch
        batch = min(batch * 4, largest_batch)


def duration(seconds: float) -> str:
    """Two significant units: "3 d 4 h", "12 min", "40 s"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s" if seconds else ""
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
