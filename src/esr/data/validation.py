"""What a run validates with: its sets, or a part of the training images; whole, one a batch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from esr.data.sets import Folder, HeldOut, ImageSet
from esr.data.store import Store

Sets = ImageSet | Mapping[str, ImageSet] | None
"""One set, several by name, or none."""


def with_held_out(train: Sets, val: Sets) -> tuple[dict[str, ImageSet], dict[str, ImageSet]]:
    """Training and validation sets by name.

    Without validation images (no set, or a folder without `hr`) a part of each training set is
    held out.
    """
    train_sets, val_sets = _by_name(train), _by_name(val)
    missing = not val_sets or any(isinstance(s, Folder) and s.hr is None for s in val_sets.values())
    if not (missing and train_sets):
        return train_sets, val_sets
    return (
        {name: HeldOut(images, "train") for name, images in train_sets.items()},
        {name: HeldOut(images, "val") for name, images in train_sets.items()},
    )


def _by_name(sets: Sets) -> dict[str, ImageSet]:
    if sets is None:
        return {}
    return dict(sets) if isinstance(sets, Mapping) else {sets.name: sets}


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
