"""From sets of images to an open store, whichever was asked for."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from esr.data.images import MAX_PIXELS
from esr.data.packed import packed
from esr.data.sets import ImageSet, Pair
from esr.data.store import ArrayStore, FileStore, JoinedStore, Store, check, load
from esr.errors import UserError

Kind = Literal["ram", "memmap", "files", "gpu"]


def open_store(
    sets: Mapping[str, ImageSet],  # several: names of images get the set's in front
    role: str,  # "train" or "val": keeps the packed stores of a divided set apart
    scale: int,
    kind: Kind,  # a set for the accelerator is read from its packed store
    cache: Path,  # folder of the packed stores
    max_pixels: int = MAX_PIXELS,
    full_check: bool = False,  # of all pixels of a packed store, not of four images
) -> Store:
    """One store over all images of the sets, in their order."""
    if kind not in get_args(Kind):
        raise UserError(f"unknown data.store={kind}: choose one of {', '.join(get_args(Kind))}")
    listed = {name: images.pairs(scale) for name, images in sets.items()}
    if kind == "files":
        several = len(listed) > 1
        pairs = [
            Pair(f"{title}/{pair.name}" if several else pair.name, pair.hr, pair.lr)
            for title, some in listed.items()
            for pair in some
        ]
        return FileStore(check(pairs, scale, max_pixels))
    parts: dict[str, ArrayStore] = {}
    for name, pairs in listed.items():
        if kind == "ram":
            parts[name] = load(check(pairs, scale, max_pixels))
        else:
            folder = cache / "packed" / _title(name, role, pairs, scale)
            parts[name] = packed(pairs, scale, folder, max_pixels, full_check)
    return JoinedStore(parts) if len(parts) > 1 else next(iter(parts.values()))


def default_cache() -> Path:
    """$ESR_CACHE, or the user's cache folder."""
    return Path(os.environ.get("ESR_CACHE", "~/.cache/esr")).expanduser()


def _title(name: str, role: str, pairs: Sequence[Pair], scale: int) -> str:
    """Name of a packed store: the same for the same folders, whatever images they hold now."""
    roots = [
        os.path.commonpath([file.absolute().parent for file in files])
        for files in ([p.hr for p in pairs], [p.lr for p in pairs if p.lr is not None])
        if files
    ]
    digest = hashlib.sha256("\0".join([role, *roots]).encode()).hexdigest()[:8]
    return f"{name}-{role}-x{scale}-{digest}"
