"""Where decoded images lie while patches are cut: in memory, in a packed file, or nowhere.

Every store answers the same questions with the same bytes, so the choice is one of speed and room
only. Images are pairs: uint8 (h, w, 3) for LR and (scale*h, scale*w, 3) for HR.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from esr.console import bar
from esr.data.images import MAX_PIXELS, Header, read_header, read_rgb
from esr.data.resize import imresize
from esr.data.sets import Pair
from esr.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Patches:
    """A batch of patches as they lie in the images: uint8, (N, s, s, 3) and (N, S, S, 3)."""

    lr: torch.Tensor
    hr: torch.Tensor


class Store(Protocol):
    """Decoded pairs of images."""

    names: list[str]
    sizes: np.ndarray
    scale: int

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole LR and HR image."""
        ...

    def patches(self, image: np.ndarray, row: np.ndarray, column: np.ndarray, size: int) -> Patches:
        """Patches at LR positions (row, column) of side `size` in LR pixels."""
        ...

    def checksum(self) -> str:
        """A fingerprint of names and content."""
        ...


@dataclass(frozen=True)
class Checked:
    """A pair whose files were looked at: they exist, are whole as far as headers tell, and fit."""

    pair: Pair
    size: tuple[int, int]
    """Height and width of the LR image."""
    hr: Header
    lr: Header | None


def check(pairs: Sequence[Pair], scale: int, max_pixels: int = MAX_PIXELS) -> list[Checked]:
    """Read all headers and make sure that each pair fits.

    HR sides that do not divide by the scale are cut at the bottom and right, as is customary; a
    given LR must then have exactly 1/scale of the sides.

    Raises:
        UserError: names the first file that cannot be used, and why.
    """

    def look(pair: Pair) -> Checked:
        hr = read_header(pair.hr, max_pixels)
        size = (hr.height // scale, hr.width // scale)
        if min(size) < 1:
            raise UserError(
                f"{pair.hr} is {hr.width}x{hr.height} pixels, too small for x{scale}: remove it"
            )
        if pair.lr is None:
            return Checked(pair, size, hr, None)
        lr = read_header(pair.lr, max_pixels)
        if (lr.height, lr.width) != size:
            raise UserError(
                f"{pair.lr} is {lr.width}x{lr.height}, but {pair.hr} is {hr.width}x{hr.height}: at "
                f"x{scale} its LR must be {size[1]}x{size[0]}. Is it the LR of another scale?"
            )
        return Checked(pair, size, hr, lr)

    return parallel(look, pairs)


def decode(
    item: Checked, scale: int, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, np.ndarray]:
    """LR and HR of a pair; LR is made by MATLAB's bicubic when it is not given."""
    height, width = item.size
    hr = read_rgb(item.pair.hr, max_pixels)[: height * scale, : width * scale]
    if item.pair.lr is None:
        return imresize(hr, 1 / scale), hr
    return read_rgb(item.pair.lr, max_pixels), hr


class ArrayStore:
    """Pairs that lie as arrays in memory (or in a mapped file)."""

    def __init__(
        self,
        names: list[str],
        lr: Sequence[np.ndarray],
        hr: Sequence[np.ndarray],
        scale: int,
    ):
        self.names = names
        self.scale = scale
        self.sizes = np.array([image.shape[:2] for image in lr], dtype=np.int64)
        self._lr, self._hr = lr, hr

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole LR and HR image."""
        return self._lr[index], self._hr[index]

    def patches(self, image: np.ndarray, row: np.ndarray, column: np.ndarray, size: int) -> Patches:
        """Copy patches out of the arrays."""
        scale, large = self.scale, size * self.scale
        lr = torch.empty((len(image), size, size, 3), dtype=torch.uint8)
        hr = torch.empty((len(image), large, large, 3), dtype=torch.uint8)
        low, high = lr.numpy(), hr.numpy()
        for n, (i, y, x) in enumerate(
            zip(image.tolist(), row.tolist(), column.tolist(), strict=True)
        ):
            low[n] = self._lr[i][y : y + size, x : x + size]
            top, left = y * scale, x * scale
            high[n] = self._hr[i][top : top + large, left : left + large]
        return Patches(lr, hr)

    def checksum(self) -> str:
        """SHA-256 over names and the CRC-32 of all pixels."""
        crcs = [
            zlib.crc32(hr.data, zlib.crc32(lr.data))
            for lr, hr in zip(self._lr, self._hr, strict=True)
        ]
        return fingerprint(self.names, crcs)


def load(checked: Sequence[Checked], scale: int, max_pixels: int = MAX_PIXELS) -> ArrayStore:
    """Decode everything into memory (`data.store=ram`)."""
    decoded = parallel(
        lambda item: decode(item, scale, max_pixels), checked, f"reading {len(checked)} images"
    )
    names = [item.pair.name for item in checked]
    lr = [np.ascontiguousarray(low) for low, _ in decoded]
    hr = [np.ascontiguousarray(high) for _, high in decoded]
    return ArrayStore(names, lr, hr, scale)


class FileStore:
    """Decodes the files anew for each patch (`data.store=files`): no room needed, but slow."""

    def __init__(self, checked: Sequence[Checked], scale: int, max_pixels: int = MAX_PIXELS):
        self.names = [item.pair.name for item in checked]
        self.sizes = np.array([item.size for item in checked], dtype=np.int64)
        self.scale = scale
        self._checked = list(checked)
        self._max_pixels = max_pixels

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole LR and HR image."""
        return decode(self._checked[index], self.scale, self._max_pixels)

    def patches(self, image: np.ndarray, row: np.ndarray, column: np.ndarray, size: int) -> Patches:
        """Decode, cut, and make the LR of what was cut unless it is given."""
        cut = [
            self._patch(i, y, x, size)
            for i, y, x in zip(image.tolist(), row.tolist(), column.tolist(), strict=True)
        ]
        lr = np.stack([low for low, _ in cut])
        hr = np.stack([high for _, high in cut])
        return Patches(torch.from_numpy(lr), torch.from_numpy(hr))

    def checksum(self) -> str:
        """SHA-256 over names and bytes of the files; differs from a decoded store's."""
        crcs = parallel(
            lambda item: [_crc(file) for file in (item.pair.hr, item.pair.lr) if file],
            self._checked,
        )
        return fingerprint(self.names, crcs)

    def _patch(self, index: int, y: int, x: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        item, scale = self._checked[index], self.scale
        height, width = item.size
        full = read_rgb(item.pair.hr, self._max_pixels)[: height * scale, : width * scale]
        if item.pair.lr is not None:
            low = read_rgb(item.pair.lr, self._max_pixels)[y : y + size, x : x + size]
        else:
            # The kernel reaches 2 LR pixels and a half beyond the patch: 4 around it give the very
            # values that resizing the whole image gives.
            top, left = max(0, y - 4), max(0, x - 4)
            near = full[top * scale : (y + size + 4) * scale, left * scale : (x + size + 4) * scale]
            low = imresize(near, 1 / scale)[y - top : y - top + size, x - left : x - left + size]
        y, x, large = y * scale, x * scale, size * scale
        return low, full[y : y + large, x : x + large]


class JoinedStore(ArrayStore):
    """Several stores in memory as one; names get their set's name in front."""

    def __init__(self, parts: Mapping[str, ArrayStore]):
        stores = list(parts.values())
        super().__init__(
            [f"{title}/{name}" for title, store in parts.items() for name in store.names],
            [image for store in stores for image in store._lr],
            [image for store in stores for image in store._hr],
            stores[0].scale,
        )
        self._parts = dict(parts)

    def checksum(self) -> str:
        """From the parts' own, which may know them without reading."""
        return fingerprint(list(self._parts), [part.checksum() for part in self._parts.values()])

    # Pickled as parts: a packed one is then mapped again instead of copied.
    def __getstate__(self) -> dict[str, ArrayStore]:
        return self._parts

    def __setstate__(self, parts: dict[str, ArrayStore]) -> None:
        self.__init__(parts)


def fingerprint(names: Sequence[str], values: Sequence[object]) -> str:
    """SHA-256 of names and their values, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in zip(names, values, strict=True):
        digest.update(f"{name}\0{value}\n".encode())
    return digest.hexdigest()


def parallel(
    function: Callable[[T], R], items: Sequence[T], progress: str | None = None
) -> list[R]:
    """Map in threads (decoding and resizing release the interpreter's lock), in order.

    The first error stops the rest. `progress` shows a bar of that name when it takes a while.
    """
    count = min(len(items), cpus())
    with ThreadPoolExecutor(max(1, count)) as pool, bar(progress, len(items)) as advance:
        futures = [pool.submit(function, item) for item in items]
        try:
            results = []
            for future in futures:
                results.append(future.result())
                advance(1)
            return results
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def cpus() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _crc(path: Path) -> int:
    return zlib.crc32(path.read_bytes())
