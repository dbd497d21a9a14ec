"""The packed store: every image decoded once into one mapped uint8 file (`data.store=memmap`).

A store is a folder with `index.json` and the file of pixels that it names. The index is written
last and by renaming, so what has no index is not finished. While a store is being made, pixels go
to a `partial-` file and a journal notes each image that is complete, with its CRC: a killed
preparation is continued, not repeated. The old store stays in use and in place until the new index
replaces the old one, so a full disk or a crash never costs a working store.

The key covers names, sizes and modification times of all source files, the scale and the resize
rule: a changed image or another scale is noticed at opening, by file name.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from esr.console import say
from esr.data.images import MAX_PIXELS
from esr.data.mapped import MappedStore, Place, layout, view
from esr.data.sets import Pair
from esr.data.store import Checked, check, crc, fingerprint, parallel
from esr.errors import UserError
from esr.files import whole

FORMAT = "esr-pack-1 matlab-bicubic"
"""Part of the key: changes when the layout or the rule that makes LR changes."""

_ALIGN = 64
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Sources = dict[str, list[list[int]]]
"""Bytes and modification time (ns) of the HR file and, if given, of the LR file, by image."""


class PackedStore(MappedStore):
    """A finished store in a folder with `index.json`."""

    def __init__(self, folder: Path):
        index = json.loads((folder / "index.json").read_text())
        images = index["images"]
        self._folder = folder
        self._crcs = [image["crc"] for image in images]
        super().__init__(
            [image["name"] for image in images],
            folder / index["pixels"],
            [(image["lr"], image["hr"]) for image in images],
            index["scale"],
        )

    def checksum(self) -> str:
        return fingerprint(self.names, self._crcs)

    def damaged(self, indices: Sequence[int]) -> str | None:
        """Name of the first of these images whose pixels are not what was written, if any."""
        for index in indices:
            if crc(*self.pair(index)) != self._crcs[index]:
                return self.names[index]
        return None

    # Workers that are spawned map the file again; pickling the arrays would copy gigabytes.
    def __getstate__(self) -> Path:
        return self._folder

    def __setstate__(self, folder: Path) -> None:
        self.__init__(folder)


def packed(
    pairs: Sequence[Pair],
    scale: int,
    folder: Path,  # of this store alone
    max_pixels: int = MAX_PIXELS,
    full_check: bool = False,
) -> PackedStore:
    """Open the store of these pairs in `folder`, making or remaking it where needed.

    Two processes that ask for the same store at once take turns; the second finds it finished.
    `full_check` compares every image's CRC at opening instead of four. UserError when an image
    cannot be used or there is no room; the old store is left as it was.
    """
    sources: Sources = {}
    for pair in pairs:
        stats = [file.stat() for file in (pair.hr, pair.lr) if file is not None]
        sources[pair.name] = [[stat.st_size, stat.st_mtime_ns] for stat in stats]
    text = json.dumps([FORMAT, scale, list(sources.items())])
    key = hashlib.sha256(text.encode()).hexdigest()
    if _fault(folder, sources, scale, key, full_check) is None:
        return PackedStore(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {folder}: {error.strerror}. Type data.cache=FOLDER with room, or "
            "data.store=ram."
        ) from error
    with _lock(folder):
        fault = _fault(folder, sources, scale, key, full_check)
        if fault is not None:
            if (folder / "index.json").exists():
                say(f"packing anew: {fault}", aside=True)
            try:
                _pack(check(pairs, scale, max_pixels), sources, scale, folder, key)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise UserError(
                        f"no room left while packing into {folder} ({error.strerror}). Free some "
                        "and repeat: it goes on where it stopped. Or type data.cache=FOLDER, or "
                        "data.store=files."
                    ) from error
                raise
    return PackedStore(folder)


def _fault(folder: Path, sources: Sources, scale: int, key: str, full: bool) -> str | None:
    """Why the store in `folder` cannot be used for these files; None when it can."""
    path = folder / "index.json"
    if not path.exists():
        return f"{folder} holds no finished store"
    try:
        index: dict[str, Any] = json.loads(path.read_text())
        if index["key"] != key:
            return _difference(index, sources, scale)
        size = (folder / index["pixels"]).stat().st_size
        if size != index["bytes"]:
            return f"{folder / index['pixels']} was cut short: {size} of {index['bytes']} bytes"
        store = PackedStore(folder)
    except FileNotFoundError as error:
        return f"{error.filename} is gone"
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        return f"{path} is damaged ({error!r})"
    count = len(store.names)
    some = range(count) if full else sorted({0, count // 3, 2 * count // 3, count - 1})
    damaged = store.damaged(some)
    return f"{damaged} in {folder} differs from what was written" if damaged else None


def _difference(index: dict[str, Any], sources: Sources, scale: int) -> str:
    if index["scale"] != scale:
        return f"the store was made for x{index['scale']}, now x{scale} is asked for"
    if index["format"] != FORMAT:
        return f"the store is of another version ({index['format']})"
    before = {image["name"]: image["source"] for image in index["images"]}
    for name in sources.keys() ^ before.keys():
        return f"{name} is {'new' if name in sources else 'gone'} since the store was made"
    for name, source in sources.items():
        if before[name] != source:
            return f"{name} was changed since the store was made"
    return "the order of the images changed since the store was made"


def _pack(checked: list[Checked], sources: Sources, scale: int, folder: Path, key: str) -> None:
    places, total = layout([item.size for item in checked], scale, _ALIGN)
    partial, final = folder / f"partial-{key[:12]}.u8", folder / f"pixels-{key[:12]}.u8"
    journal = partial.with_suffix(".jsonl")
    if final.exists() and not partial.exists():  # killed just before, or damaged since
        final.rename(partial)
    done = _journaled(journal, partial, places, total)
    allocated = getattr(partial.stat(), "st_blocks", 0) * 512 if partial.exists() else 0
    missing = total - allocated
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise UserError(
            f"packing {len(places)} images needs {missing / 1e9:.2f} GB in {folder}, "
            f"{free / 1e9:.2f} GB are free. Type data.cache=FOLDER with room, or data.store=files."
        )
    already = f", {len(done)} of them are there already" if done else ""
    size = f"{total / 1e9:.2f} GB ({free / 1e9:.2f} GB free)"
    say(f"packing {len(places)} images into {folder}: {size}{already}", aside=True)
    file = os.open(partial, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.ftruncate(file, total)
        if hasattr(os, "posix_fallocate"):  # now, so that a full disk is noticed before the work
            os.posix_fallocate(file, 0, total)
        with journal.open("a") as notes:
            notes.write("\n")  # ends a line that a kill may have cut

            def write(number: int) -> None:
                pair = checked[number].decode()
                for image, place in zip(pair, places[number], strict=True):
                    _write(file, image, place[0])
                done[number] = crc(*pair)
                notes.write(json.dumps([number, done[number]]) + "\n")
                notes.flush()

            todo = [number for number in range(len(places)) if number not in done]
            parallel(write, todo, f"packing {len(todo)} images")
        os.fsync(file)
    finally:
        os.close(file)
    names = [item.pair.name for item in checked]
    images = [
        {"name": name, "source": sources[name], "lr": lr, "hr": hr, "crc": done[number]}
        for number, (name, (lr, hr)) in enumerate(zip(names, places, strict=True))
    ]
    index = {"format": FORMAT, "key": key, "scale": scale, "pixels": final.name, "bytes": total}
    # Name the pixels, replace the index, and only then remove what it replaced.
    with whole(folder / "index.json") as draft, draft.open("w") as out:
        json.dump({**index, "images": images}, out)
        out.flush()
        os.fsync(out.fileno())
        partial.rename(final)
    for old in (*folder.glob("pixels-*.u8"), *folder.glob("partial-*")):
        if old != final:
            old.unlink(missing_ok=True)


def _journaled(
    journal: Path, partial: Path, places: list[tuple[Place, Place]], total: int
) -> dict[int, int]:
    """CRCs of the images that an earlier preparation completed and that are still intact."""
    if not journal.exists() or not partial.exists() or partial.stat().st_size != total:
        return {}
    noted: dict[int, int] = {}
    for line in journal.read_text().splitlines():
        try:
            number, value = json.loads(line)
        except (ValueError, TypeError):
            continue  # empty, or cut by the kill
        noted[number] = value
    pixels = np.memmap(partial, mode="r", dtype=np.uint8)
    return {
        number: value
        for number, value in noted.items()
        if crc(*(view(pixels, place) for place in places[number])) == value
    }


def _write(file: int, data: np.ndarray, offset: int) -> None:
    rest = data.data.cast("B")
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _lock(folder: Path) -> AbstractContextManager[object]:
    """The folder's lock, held; the system frees it when its holder dies."""
    lock = FileLock(folder / "lock")
    try:
        return lock.acquire(timeout=0.2)
    except Timeout:
        say(f"another process is preparing {folder}: waiting for it", aside=True)
        return lock.acquire()
