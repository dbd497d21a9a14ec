"""How fast patches come: each store beside a reader that decodes PNG sub-images for every patch.

    python benchmarks/data.py [--images FOLDER] [--seconds 3] [--div2k-sized 800]

Everything is measured in one run on one core, side by side, and written as JSON to
benchmarks/results/data_DEVICE.json. The reference does what BasicSR-style loaders do: HR cut into
480x480 PNG sub-images and LR into 120x120 beforehand; for each patch both files are decoded, cut,
flipped, rotated and made float tensors. Memory bandwidth bounds what any store can reach: the
limit is a plain copy of as many bytes between two arrays that are too large for the caches.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from esr.data.augment import Finishing
from esr.data.device import DeviceBatches
from esr.data.images import read_rgb
from esr.data.open import Kind, open_store
from esr.data.patches import PatchBatches, TrainLoader
from esr.data.resize import imresize
from esr.data.sampling import PatchSampler, Schedule
from esr.data.sets import ImageSet, Pair, Sample
from esr.provenance import provenance

SCALE, PATCH, BATCH = 4, 256, 64
SUB = 480


class Copies:
    """A folder's images under as many names as a large set has: real files, real pixels."""

    name = "large"
    weight: float | None = None

    def __init__(self, folder: Path, count: int):
        self.files = sorted(folder.iterdir())
        self.count = count

    def prepare(self, scale: int) -> None:
        """The files are there."""

    def pairs(self, scale: int) -> list[Pair]:
        """Numbered."""
        return [Pair(f"{n:04d}", self.files[n % len(self.files)]) for n in range(self.count)]


def rate(function: Callable[[int], int], seconds: float) -> tuple[float, float]:
    """Patches a second (median and best of five stretches) of a function of the call's number.

    Seconds of this process's processor time, so that other work on the machine counts little; on
    an accelerator seconds of the clock.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    function(0)
    found, number = [], 1
    for _ in range(5):
        start, patches = clock(), 0
        while (spent := clock() - start) < seconds / 5 or not patches:
            patches += function(number)
            number += 1
        found.append(patches / spent)
    return float(np.median(found)), max(found)


def reference(folder: Path, work: Path) -> Callable[[int], int]:
    """Decodes a pair of PNG sub-images for each patch."""
    pairs = []
    for file in sorted(folder.iterdir()):
        hr = read_rgb(file)
        hr = hr[: hr.shape[0] // SCALE * SCALE, : hr.shape[1] // SCALE * SCALE]
        lr, small = imresize(hr, 1 / SCALE), SUB // SCALE
        for y in range(0, hr.shape[0] - SUB + 1, SUB):
            for x in range(0, hr.shape[1] - SUB + 1, SUB):
                name = f"{file.stem}_{y}_{x}.png"
                cut = hr[y : y + SUB, x : x + SUB]
                Image.fromarray(cut).save(work / f"hr_{name}")
                y4, x4 = y // SCALE, x // SCALE
                Image.fromarray(lr[y4 : y4 + small, x4 : x4 + small]).save(work / f"lr_{name}")
                pairs.append((work / f"lr_{name}", work / f"hr_{name}"))
    chance = random.Random(0)

    def patch(_: int) -> int:
        lr_file, hr_file = chance.choice(pairs)
        lr, hr = np.asarray(Image.open(lr_file)), np.asarray(Image.open(hr_file))
        side = PATCH // SCALE
        y, x = chance.randrange(lr.shape[0] - side + 1), chance.randrange(lr.shape[1] - side + 1)
        lr = lr[y : y + side, x : x + side]
        hr = hr[y * SCALE : y * SCALE + PATCH, x * SCALE : x * SCALE + PATCH]
        if chance.random() < 0.5:
            lr, hr = lr[:, ::-1], hr[:, ::-1]
        if chance.random() < 0.5:
            lr, hr = lr.transpose(1, 0, 2), hr.transpose(1, 0, 2)
        for image in (lr, hr):
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(255)
        return 1

    return patch


def memcpy(seconds: float) -> float:
    """Patches a second if cutting them were one plain copy: the median of ten stretches."""
    size = BATCH * (PATCH**2 + (PATCH // SCALE) ** 2) * 3
    source = np.random.default_rng(0).integers(0, 256, (20, size), dtype=np.uint8)
    target = np.zeros_like(source)

    def copy(number: int) -> int:
        np.copyto(target[number % 20], source[(number * 7) % 20])
        return BATCH

    return rate(copy, seconds)[0]


def batches(
    images: ImageSet,
    kind: Kind,
    cache: Path,
    batch: int = BATCH,
    patch: int = PATCH,
    rank: int = 0,
    world: int = 1,
) -> PatchBatches:
    """Batches of a set from a store, for one rank."""
    store = open_store({"train": images}, "train", SCALE, kind, cache)
    sampler = PatchSampler(store.sizes, store.sizes.prod(axis=1), 0)
    schedule = Schedule(batch, patch, SCALE)
    if kind == "gpu":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return DeviceBatches(store, sampler, schedule, device, rank, world)
    return PatchBatches(store, sampler, schedule, rank, world)


def determinism(cache: Path, samples: int) -> dict[str, str]:
    """SHA-256 of the first samples' finished pixels, for each way to load them."""
    finish = Finishing()

    def digest(parts: list[PatchBatches], workers: int) -> str:
        found = hashlib.sha256()
        loaders = [iter(TrainLoader(p, samples // 16, lambda: 0, workers)) for p in parts]
        for ranks in zip(*loaders, strict=True):
            for batch in map(finish, ranks):
                for pair in zip(batch["lr"], batch["hr"], strict=True):
                    for image in pair:
                        found.update(image.cpu().numpy().tobytes())
        return found.hexdigest()

    def named(kind: Kind, rank: int = 0, world: int = 1) -> PatchBatches:
        return batches(Sample("train"), kind, cache, 16, 64, rank, world)

    kinds: tuple[Kind, ...] = ("ram", "memmap", "files", "gpu")
    found = {f"store={kind}": digest([named(kind)], 0) for kind in kinds}
    found |= {f"workers={n}": digest([named("memmap")], n) for n in (0, 1, 4)}
    found |= {f"ranks={n}": digest([named("ram", r, n) for r in range(n)], 0)
              for n in (1, 2)}  # fmt: skip
    return found


FIRST = """
import json, os, resource, sys, time
def status():
    with open("/proc/self/status") as file:
        pairs = (line.split(":") for line in file)
        return {k: int(v.split()[0]) / 1024 for k, v in pairs if k in ("RssAnon", "RssFile")}
begin = time.perf_counter()
cpu = time.process_time
from esr.training.datamodule import SRData
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from data import Copies
imported, memory, spent = time.perf_counter(), status(), cpu()
from esr.data.sets import Sample
data = SRData(4, Copies(Path(sys.argv[1]), int(sys.argv[4])), Sample("val"), store="memmap",
              cache=sys.argv[2], patch_size=256, batch_size=64)
data.prepare_data()
data.setup("fit")
loader = data.train_dataloader()
stream = iter(loader)
data.on_after_batch_transfer(next(stream), 0)
first, spent = time.perf_counter(), cpu() - spent
for _ in range(30):
    next(stream)
after = status()
print(json.dumps({"imports_s": imported - begin, "to_first_batch_s": first - imported,
    "to_first_batch_cpu_s": spent,
    "anonymous_mb": after["RssAnon"] - memory["RssAnon"],
    "mapped_mb_shared_page_cache": after["RssFile"] - memory["RssFile"]}))
"""


def first_batch(folder: Path, cache: Path, count: int) -> dict[str, float]:
    """Seconds to the first batch, and memory of a loading process, on a set packed already."""
    command = [sys.executable, "-c", FIRST, folder, cache, Path(__file__).parent, count]
    runs = [
        json.loads(subprocess.run(list(map(str, command)), capture_output=True, text=True,
                                  check=True).stdout.splitlines()[-1])
        for _ in range(4)
    ]  # fmt: skip
    return {key: round(float(np.median([run[key] for run in runs[1:]])), 3) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of photographs of 1 megapixel or more")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--div2k-sized", type=int, default=0, help="pack this many images too")
    parser.add_argument("--samples", type=int, default=10_000, help="whose hash is compared")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.images or Path(__file__).parents[2] / "shared" / "data" / "photos"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "sub").mkdir()
        images = Copies(folder, len(list(folder.iterdir())))
        read = reference(folder, work / "sub")
        packed, ram = (batches(images, kind, work) for kind in ("memmap", "ram"))
        files, gpu = (batches(images, kind, work) for kind in ("files", "gpu"))
        finish = Finishing()

        def finished(source: PatchBatches) -> Callable[[int], int]:
            def run(number: int) -> int:
                finish(source[number])
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                return BATCH

            return run

        def cut(source: PatchBatches) -> Callable[[int], int]:
            return lambda number: len(source[number]["lr"])

        photo = np.random.default_rng(0).integers(0, 256, (1356, 2040, 3), dtype=np.uint8)

        rounds = []
        for _ in range(3):  # interleaved, so that a busy moment hits all alike
            part = options.seconds / 3
            rounds.append({
                "memcpy": memcpy(part),
                "png_subimages_480_decoded_per_patch": rate(read, part)[0],
                "memmap": rate(cut(packed), part)[0],
                "ram": rate(cut(ram), part)[0],
                "memmap_finished_float_augmented": rate(finished(packed), part)[0],
                "gpu_store_finished": rate(finished(gpu), part)[0],
                "resize_2040x1356_to_x4": rate(lambda _: imresize(photo, 1 / 4).ndim - 2, part)[0],
            })  # fmt: skip
        speeds = {key: round(float(np.median([r[key] for r in rounds])), 1) for key in rounds[0]}
        slow = batches(images, "files", work, batch=4)
        speeds["files"] = round(rate(lambda n: len(slow[n]["lr"]), options.seconds)[0], 2)
        del files
        hashes = determinism(work, options.samples)
        start = None
        if options.div2k_sized:
            count = options.div2k_sized
            open_store({"large": Copies(folder, count)}, "train", SCALE, "memmap", work)
            start = first_batch(folder, work, count)
            start["packed_gb"] = round(
                max(p.stat().st_size for p in (work / "packed").rglob("*.u8")) / 1e9, 2
            )
    memmap, png = speeds["memmap"], speeds["png_subimages_480_decoded_per_patch"]
    result = {
        "protocol": {
            "hr_patch": PATCH, "batch": BATCH, "scale": SCALE, "threads": 1,
            "images": f"{images.count} photographs", "seconds_each": options.seconds,
            "seconds_of": "processor time; the clock on an accelerator",
            "median_of": "3 interleaved rounds of 5 stretches",
            "load_average": os.getloadavg()[0], 
            **provenance("cuda" if torch.cuda.is_available() else "cpu"),
        },
        "patches_per_second_and_core": speeds,
        "memmap_times_png_reader": round(memmap / png, 1),
        "finished_times_png_reader": round(speeds["memmap_finished_float_augmented"] / png, 1),
        "memmap_share_of_memcpy": round(memmap / speeds["memcpy"], 3),
        "gpu_store_batch_ms": round(1000 * BATCH / speeds["gpu_store_finished"], 3),
        "resize_ms": round(1000 / speeds["resize_2040x1356_to_x4"], 1),
        "first_batch": start,
        "hash_of_samples": {"samples": options.samples, "equal": len(set(hashes.values())) == 1,
                            **hashes},
    }  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    path = Path(__file__).parent / "results" / f"data_{device}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
