"""Sets that outgrow a disk: written as shards once, streamed from object storage ever after.

Shards are plain tar files of PNGs, read and written with webdataset: the one of the customary
streaming libraries that needs neither torchvision nor a cloud's own packages, and whose files any
tool can unpack. It opens paths, http(s), s3, gs and `pipe:COMMAND`.

The sample stream stays a function of (seed, n). A batch has a fixed number of lanes; each lane
draws from one shard for a while and then goes on to the next of a shuffled order. A rank serves
whole lanes, so it only reads the shards it needs, and batches are the same for any number of ranks
and workers. Shards are unpacked once a machine into mapped files, the oldest of which make room.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from filelock import FileLock
from PIL import Image

from esr.console import bar
from esr.data.augment import Batch
from esr.data.images import MAX_PIXELS
from esr.data.mapped import MappedStore, Place, layout, view
from esr.data.open import default_cache
from esr.data.patches import PatchBatches
from esr.data.sampling import PatchSampler, Schedule, masses, philox
from esr.data.sets import Pair
from esr.data.store import check
from esr.errors import UserError
from esr.files import whole

_ORDER = 0x6573722D73686172  # second half of the key of the shards' order


def write_shards(
    pairs: Sequence[Pair],
    scale: int,
    folder: Path,
    megabytes: float = 256,
    max_pixels: int = MAX_PIXELS,
) -> Path:
    """Write pairs as shards of about `megabytes` and, last, their index; LR is made if not given.

    Copy the folder to object storage as it is. Returns the index's path.
    """
    write = _webdataset().ShardWriter
    folder.mkdir(parents=True, exist_ok=True)
    pattern = str(folder).replace("%", "%%") + "/%06d.tar"
    checked = check(pairs, scale, max_pixels)
    shards: list[dict] = []
    with (
        bar(f"writing shards of {len(checked)} images", len(checked)) as advance,
        write(pattern, maxsize=megabytes * 1e6, verbose=0) as writer,
    ):
        for number, item in enumerate(checked):
            low, high = (_png(image) for image in item.decode())
            writer.write({"__key__": f"{number:06d}", "lr.png": low, "hr.png": high})
            if writer.shard > len(shards):  # it has begun another one
                shards.append({"file": f"{len(shards):06d}.tar", "names": [], "sizes": []})
            shards[-1]["names"].append(item.pair.name)
            shards[-1]["sizes"].append(list(item.size))
            advance()
    path = folder / "shards.json"
    with whole(path) as part:
        part.write_text(json.dumps({"scale": scale, "shards": shards}))
    return path


class Shards:
    """A training set of shards.

    A batch draws from `lanes` shards at once: its size must be a multiple of them, and they a
    multiple of the ranks. A lane goes on after `visit` samples from a shard; many more than its
    images spare bandwidth, fewer mix better.
    """

    def __init__(
        self,
        url: str,  # folder of the shards: a path, or an address that webdataset opens
        lanes: Annotated[int, Ge(1)] = 8,
        visit: Annotated[int, Ge(1)] = 4096,
        keep: Annotated[int, Ge(2)] = 32,  # unpacked shards on this machine's disk
        cache: str | None = None,  # folder of those; None: $ESR_CACHE or ~/.cache/esr
        name: str = "shards",
    ):
        if min(lanes, visit) < 1 or keep < 2 * lanes:
            raise UserError(
                f"lanes={lanes} and visit={visit} must be positive and keep={keep} at least "
                f"{2 * lanes}: every lane's shard, and the next"
            )
        self.url, self.name = url.rstrip("/"), name
        self.lanes, self.visit, self.keep = lanes, visit, keep
        base = Path(cache).expanduser() if cache is not None else default_cache()
        self._folder = base / "shards" / hashlib.sha256(url.encode()).hexdigest()[:12]

    def index(self, scale: int) -> list[dict]:
        """Names and sizes of all shards' images; UserError when made for another scale."""
        with _opened(f"{self.url}/shards.json") as file:
            index = json.load(file)
        if index["scale"] != scale:
            raise UserError(f"{self.url} was made for x{index['scale']}, asked for x{scale}")
        return index["shards"]

    def order(self, seed: int, cycle: int, count: int) -> np.ndarray:
        """Order of the shards the `cycle`-th time that all are gone through."""
        return np.argsort(philox(seed, _ORDER, cycle, count), kind="stable")

    def open(self, shard: dict, scale: int) -> MappedStore:
        """The shard's images, mapped from this machine's disk, after fetching where needed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{Path(shard['file']).stem}-x{scale}.u8"
        places, total = layout(shard["sizes"], scale)
        if not path.exists():
            with FileLock(f"{path}.lock"):
                if not path.exists():
                    for left in self._folder.glob(f".{path.stem}.*"):  # by a killed process
                        left.unlink()
                    with whole(path) as part:
                        self._fetch(shard, places, total).tofile(part)
                    self._make_room(path)
        os.utime(path, (time.time(), path.stat().st_mtime))  # its last use
        return MappedStore(shard["names"], path, places, scale)

    def _fetch(self, shard: dict, places: list[tuple[Place, Place]], total: int) -> np.ndarray:
        url = f"{self.url}/{shard['file']}"
        pixels = np.empty(total, dtype=np.uint8)
        count = 0
        for sample in _webdataset().WebDataset(url, shardshuffle=False, empty_check=False):
            pair = places[count] if count < len(places) else ()
            images = [np.asarray(Image.open(io.BytesIO(sample[f"{x}.png"]))) for x in ("lr", "hr")]
            targets = [view(pixels, place) for place in pair]
            if [image.shape for image in images] != [target.shape for target in targets]:
                raise UserError(f"{url} does not fit its index: upload both again")
            for image, target in zip(images, targets, strict=True):
                target[:] = image
            count += 1
        if count != len(places):
            raise UserError(f"{url} holds {count} of {len(places)} images: upload it again")
        return pixels

    def _make_room(self, newest: Path) -> None:
        """Remove the longest unused; whoever still maps one keeps it until they let go."""
        found = sorted(self._folder.glob("[!.]*.u8"), key=lambda path: path.stat().st_atime)
        for path in found[: max(0, len(found) - self.keep)]:
            if path != newest:
                path.unlink(missing_ok=True)


class ShardBatches(PatchBatches):
    """As `PatchBatches`, drawn lane by lane from shards."""

    def __init__(
        self,
        shards: Shards,
        schedule: Schedule,
        scale: int,
        seed: int,
        sampling: str = "area",
        rank: int = 0,
        world: int = 1,
        flips: bool = True,
        colours: bool = False,
    ):
        self.shards, self.schedule, self.scale, self.seed = shards, schedule, scale, seed
        self.sampling, self.rank, self.world = sampling, rank, world
        self.flips, self.colours, self.shift = flips, colours, 0
        self._index = shards.index(scale)
        for size in schedule.batch_sizes:
            if size % shards.lanes or shards.lanes % world:
                raise UserError(
                    f"data.batch_size={size} must divide by data.train.lanes={shards.lanes}, and "
                    f"the lanes by the {world} devices"
                )
        patch = max(schedule.patch_sizes)
        for shard in self._index:
            for name, size in zip(shard["names"], shard["sizes"], strict=True):
                if min(size) * scale < patch:
                    raise UserError(f"{name} in {shard['file']} is smaller than {patch} pixels")

    def __getitem__(self, number: int) -> Batch:
        first, size, patch = self.schedule.batch(number)
        first += self.shift
        lanes, each = self.shards.lanes, size // self.shards.lanes
        own, drawn, side = lanes // self.world, first // lanes, patch // self.scale
        parts: list[Batch] = []
        for lane in range(self.rank * own, (self.rank + 1) * own):
            parts += self._lane(lane, first + lane * each, drawn, each, side)
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def _lane(self, lane: int, sample: int, drawn: int, count: int, side: int) -> list[Batch]:
        """`count` samples of a lane that has drawn `drawn` so far, cut where its shard changes."""
        visit = self.shards.visit
        # Lanes change shards at different times, so that fetching is spread.
        at = drawn + lane * visit // self.shards.lanes
        parts = []
        while count:
            some = min(count, visit - at % visit)
            store = self._store(at // visit * self.shards.lanes + lane)
            sampler = PatchSampler(store.sizes, masses(store.sizes, self.sampling), self.seed)
            self.store = store
            parts.append(self.cut(sampler.draw(sample, some, side), side))
            sample, at, count = sample + some, at + some, count - some
        return parts

    def _store(self, visited: int) -> MappedStore:
        cycle, place = divmod(visited, len(self._index))
        return _open(self, int(self.shards.order(self.seed, cycle, len(self._index))[place]))


@lru_cache(maxsize=64)
def _open(batches: ShardBatches, number: int) -> MappedStore:
    return batches.shards.open(batches._index[number], batches.scale)


def _png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "png", compress_level=1)
    return out.getvalue()


def _opened(url: str):
    try:
        return _webdataset().gopen(url)
    except OSError as error:
        raise UserError(f"no shards at {url} ({error}). Make them with write_shards") from error


def _webdataset() -> Any:
    try:
        import webdataset
    except ImportError as error:
        raise UserError("streaming shards needs webdataset: pip install 'esr[stream]'") from error
    return webdataset
