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
from typing import Protocol, TypeVar

import numpy as np
import torch

from esr.console import bar
from esr.data.images import MAX_PIXELS, read_rgb, read_size
from esr.data.resize import imresize
from esr.data.sets import Pair
from esr.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

ImagePair = tuple[np.ndarray, np.ndarray]
"""LR and HR image, uint8 (h, w, 3) and (scale*h, scale*w, 3)."""

Patches = tuple[torch.Tensor, torch.Tensor]
"""LR and HR patches as they lie in the images, uint8 (N, s, s, 3) and (N, S, S, 3)."""


class Store(Protocol):
    """Decoded pairs of images."""

    names: list[str]
    sizes: np.ndarray  # of LR, (images, 2), height and width
    scale: int

    def pair(self, index: int) -> ImagePair:
        """The whole LR and HR image."""
        ...

    def patches(self, image: np.ndarray, row: np.ndarray, column: np.ndarray, size: int) -> Patches:
        """Patches of the images at LR positions (row, column), of side `size` in LR pixels."""
        ...

    def checksum(self) -> str:
        """A fingerprint of names and content."""
        ...


@dataclass(frozen=True)
class Checked:
    """A pair whose files were looked at: they exist, are whole as far as headers tell, and fit."""

    pair: Pair
    size: tuple[int, int]  # height and width of the LR image
    scale: int
    max_pixels: int

    def hr(self) -> np.ndarray:
        """The HR image, cut to multiples of the scale."""
        height, width = self.size
        image = read_rgb(self.pair.hr, self.max_pixels)
        return image[: height * self.scale, : width * self.scale]

    def decode(self) -> ImagePair:
        """LR and HR, contiguous; LR is made by MATLAB's bicubic when it is not given."""
        hr = np.ascontiguousarray(self.hr())
        if self.pair.lr is None:
            return imresize(hr, 1 / self.scale), hr
        return read_rgb(self.pair.lr, self.max_pixels), hr


def check(pairs: Sequence[Pair], scale: int, max_pixels: int = MAX_PIXELS) -> list[Checked]:
    """Read all headers; UserError names the first file that cannot be used, and why.

    HR sides that do not divide by the scale are cut at the bottom and right, as is customary; a
    given LR must then have exactly 1/scale of the sides.
    """

    def look(pair: Pair) -> Checked:
        height, width = read_size(pair.hr, max_pixels)
        size = (height // scale, width // scale)
        if min(size) < 1:
            raise UserError(
                f"{pair.hr} is {width}x{height} pixels, too small for x{scale}: remove it"
            )
        lr = size if pair.lr is None else read_size(pair.lr, max_pixels)
        if lr != size:
            raise UserError(
                f"{pair.lr} is {lr[1]}x{lr[0]}, but {pair.hr} is {width}x{height}: at "
                f"x{scale} its LR must be {size[1]}x{size[0]}. Is it the LR of another scale?"
            )
        return Checked(pair, size, scale, max_pixels)

    return parallel(look, pairs)


class ArrayStore:
    """Pairs that lie as arrays in memory."""

    def __init__(self, names: list[str], pairs: Sequence[ImagePair], scale: int):
        self.names, self.scale = names, scale
        self.sizes = np.array([lr.shape[:2] for lr, _ in pairs], dtype=np.int64)
        self._pairs = pairs

    def pair(self, index: int) -> ImagePair:
        return self._pairs[index]

    def patches(self, image: np.ndarray, row: np.ndarray, column: np.ndarray, size: int) -> Patches:
        scale, large = self.scale, size * self.scale
        lr = torch.empty((len(image), size, size, 3), dtype=torch.uint8)
        hr = torch.empty((len(image), large, large, 3), dtype=torch.uint8)
        low, high = lr.numpy(), hr.numpy()
        positions = zip(image.tolist(), row.tolist(), column.tolist(), strict=True)
        for n, (i, y, x) in enumerate(positions):
            whole_lr, whole_hr = self._pairs[i]
            low[n] = whole_lr[y : y + size, x : x + size]
            top, left = y * scale, x * scale
            high[n] = whole_hr[top : top + large, left : left + large]
        return lr, hr

    def checksum(self) -> str:
        """SHA-256 over names and the CRC-32 of all pixels."""
        return fingerprint(self.names, [crc(*pair) for pair in self._pairs])


def load(checked: Sequence[Checked]) -> ArrayStore:
    """Decode everything into memory (`data.store=ram`)."""
    decoded = parallel(Checked.decode, checked, f"reading {len(checked)} images")
    return ArrayStore([item.pair.name for item in checked], decoded, checked[0].scale)


class FileStore:
    """Decodes the files anew for each patch (`data.store=files`): no room needed, but slow."""

    def __init__(self, checked: Sequence[Checked]):
        self.names = [item.pair.name for item in checked]
        self.sizes = np.array([item.size for item in checked], dtype=np.int64)
        self.scale = checked[0].scale
        self._checked = checked

    def pair(self, index: int) -> ImagePair:
        return self._checked[index].decode()

    def patches(self, image: np.ndarray, row: np.ndarray, column: np.ndarray, size: int) -> Patches:
        positions = zip(image.tolist(), row.tolist(), column.tolist(), strict=True)
        cut = [self._patch(i, y, x, size) for i, y, x in positions]
        lr, hr = (torch.from_numpy(np.stack(images)) for images in zip(*cut, strict=True))
        return lr, hr

    def checksum(self) -> str:
        """SHA-256 over names and bytes of the files; differs from a decoded store's."""

        def crcs(item: Checked) -> list[int]:
            files = [file for file in (item.pair.hr, item.pair.lr) if file is not None]
            return [zlib.crc32(file.read_bytes()) for file in files]

        return fingerprint(self.names, parallel(crcs, self._checked))

    def _patch(self, index: int, y: int, x: int, size: int) -> ImagePair:
        item, scale = self._checked[index], self.scale
        full = item.hr()
        if item.pair.lr is not None:
            low = read_rgb(item.pair.lr, item.max_pixels)[y : y + size, x : x + size]
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
            [pair for store in stores for pair in store._pairs],
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


def crc(lr: np.ndarray, hr: np.ndarray) -> int:
    """CRC-32 of both images of a pair."""
    return zlib.crc32(hr.data, zlib.crc32(lr.data))


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
    own = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if own else os.cpu_count() or 1
    results = []
    with ThreadPoolExecutor(cores) as pool, bar(progress, len(items)) as advance:
        for result in pool.map(function, items):
            results.append(result)
            advance()
    return results
