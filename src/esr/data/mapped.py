"""Pairs of images in one mapped file of pixels: all processes that use it share its pages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from esr.data.store import ArrayStore

Place = tuple[int, int, int]
"""Where an image lies in the file: offset in bytes, height, width."""


class MappedStore(ArrayStore):
    """Pairs by the places of LR and HR of every image, as `layout` gives them."""

    def __init__(
        self, names: list[str], path: Path, places: Sequence[Sequence[Sequence[int]]], scale: int
    ):
        # A plain view: every slice of the memmap class itself would cost microseconds.
        pixels = np.memmap(path, mode="r", dtype=np.uint8).view(np.ndarray)
        super().__init__(names, [(view(pixels, lr), view(pixels, hr)) for lr, hr in places], scale)


def layout(
    sizes: Sequence[Sequence[int]], scale: int, align: int = 1
) -> tuple[list[tuple[Place, Place]], int]:
    """Places of LR and HR of images of these LR sizes, one after the other; the bytes of all."""
    places, offset = [], 0
    for height, width in sizes:
        lr = (offset, height, width)
        offset += -(-height * width * 3 // align) * align
        hr = (offset, height * scale, width * scale)
        offset += -(-height * width * scale**2 * 3 // align) * align
        places.append((lr, hr))
    return places, offset


def view(pixels: np.ndarray, place: Sequence[int]) -> np.ndarray:
    """The image (h, w, 3) at a place of the pixels."""
    offset, height, width = place
    return pixels[offset : offset + height * width * 3].reshape(height, width, 3)
