"""Whole images for validation, one a batch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from esr.data.store import Store


class WholeImages:
    """Loads pairs as float RGB (1, 3, H, W) in [0, 1]: every `step`-th image from `first` on.

    No `DataLoader`, because Lightning would divide one among the ranks a second time.
    """

    def __init__(self, store: Store, first: int = 0, step: int = 1):
        self._store = store
        self._indices = range(first, len(store.names), step)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in self._indices:
            lr, hr = self._store.pair(index)
            yield {"lr": _image(lr), "hr": _image(hr), "name": [self._store.names[index]]}


def _image(image: np.ndarray) -> torch.Tensor:
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    return torch.from_numpy(planes).float().div_(255)
