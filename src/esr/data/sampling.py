"""Which patch is sample number n of a run, a pure function of (seed, n), and which samples batch b.

Philox is a counter-based generator: its output at any position costs the same, so sample n needs
no history. That makes batches equal for any number of workers, any store and any number of ranks,
and a resumed run goes on with the very next patch. Batch and patch sizes may change with the
optimiser steps.
"""

import itertools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from esr.errors import UserError

WORDS = 4  # 64-bit words a sample: one Philox block
_DOMAIN = 0x6573722D70617463  # second half of the key: keeps other uses of the seed apart


@dataclass(frozen=True)
class Draws:
    """What was drawn for consecutive samples; every array has one row a sample."""

    image: np.ndarray  # its index
    row: np.ndarray  # first of the patch, in LR pixels
    column: np.ndarray
    code: np.ndarray  # element of the dihedral group, 0..7 (`esr.data.augment.dihedral`)
    channels: np.ndarray  # permutation of the colours, 0..5 (`esr.data.augment.PERMUTATIONS`)
    seed: np.ndarray  # the sample's own, int64, for everything random that the device does to it


class PatchSampler:
    """Draws patches from LR images of `sizes` (images, 2), height and width.

    The probabilities of the images need not sum to one.
    """

    def __init__(self, sizes: np.ndarray, probabilities: np.ndarray, seed: int):
        self.sizes = np.asarray(sizes, dtype=np.int64).reshape(-1, 2)
        total = np.cumsum(np.asarray(probabilities, dtype=np.float64))
        self._cumulative = total / total[-1]
        self.seed = seed

    def draw(self, first: int, count: int, patch: int) -> Draws:
        """Samples `first` to `first + count - 1` with LR patches of side `patch`."""
        words = philox(self.seed, _DOMAIN, first, count * WORDS).reshape(count, WORDS)
        unit = (words[:, :3] >> np.uint64(11)).astype(np.float64) * 2.0**-53
        image = np.searchsorted(self._cumulative, unit[:, 0], side="right")
        room = self.sizes[image] - patch + 1
        return Draws(
            image=image,
            row=np.floor(unit[:, 1] * room[:, 0]).astype(np.int64),
            column=np.floor(unit[:, 2] * room[:, 1]).astype(np.int64),
            code=(words[:, 3] & np.uint64(7)).astype(np.int64),
            channels=((words[:, 3] >> np.uint64(3)) % np.uint64(6)).astype(np.int64),
            seed=words[:, 3].view(np.int64),
        )


def philox(seed: int, domain: int, first: int, count: int) -> np.ndarray:
    """`count` random 64-bit words of (seed, domain), from block `first` on."""
    generator = np.random.Philox(
        key=np.array([seed % 2**64, domain], dtype=np.uint64),
        counter=np.array([first, 0, 0, 0], dtype=np.uint64),
    )
    return generator.random_raw(count)


def probabilities(
    sizes: np.ndarray,  # of LR, (images, 2)
    members: Sequence[int],  # images of each set, in the order of `sizes`
    weights: Sequence[float | None],  # of each set; None: by its area, or its number of images
    sampling: Literal["area", "image"],  # within a set
) -> np.ndarray:
    """Probability of every image.

    UserError when some sets have weights and others not, one is negative, or all are zero.
    """
    mass = masses(sizes, sampling)
    given = [weight for weight in weights if weight is not None]
    if given and len(given) < len(weights):
        raise UserError("either all training sets have a weight or none: set data.train.*.weight")
    if given and (min(given) < 0 or sum(given) == 0):
        raise UserError(f"weights of training sets must be positive, got {given}")
    if not given:
        return mass / mass.sum()
    shares = np.split(mass, np.cumsum(members)[:-1])
    parts = [share / share.sum() * w for share, w in zip(shares, given, strict=True)]
    return np.concatenate(parts) / sum(given)


def masses(sizes: np.ndarray, sampling: str) -> np.ndarray:
    """How likely each image is: by "area", so that every pixel is equally likely, or uniform."""
    return sizes.prod(axis=1).astype(np.float64) if sampling == "area" else np.ones(len(sizes))


Sizes = int | Mapping[int, int]
"""One size, or sizes by the optimiser step from which they hold: `{0: 128, 50000: 192}`."""


class Schedule:
    """Answers which samples batch number b of a run holds, and how large their patches are.

    UserError for a size that cannot be, or a schedule that does not begin at step 0.
    """

    def __init__(
        self,
        batch_size: Sizes,  # of all ranks together
        patch_size: Sizes,  # side in HR pixels, a multiple of the scale
        scale: int,
        accumulate: int = 1,  # batches an optimiser step
    ):
        self._batch_starts, self.batch_sizes = _steps(batch_size, "data.batch_size", accumulate)
        self._patch_starts, self.patch_sizes = _steps(patch_size, "data.patch_size", accumulate)
        for size in self.patch_sizes:
            if size % scale:
                raise UserError(
                    f"data.patch_size is in HR pixels and must be a multiple of the scale {scale}, "
                    f"got {size}: take {size // scale * scale or scale}"
                )
        spans = (end - start for start, end in itertools.pairwise(self._batch_starts))
        samples = (span * size for span, size in zip(spans, self.batch_sizes, strict=False))
        self._firsts = list(itertools.accumulate(samples, initial=0))

    def batch(self, number: int) -> tuple[int, int, int]:
        """(first sample, samples, side of the HR patches) of a batch."""
        part = bisect_right(self._batch_starts, number) - 1
        size = self.batch_sizes[part]
        first = self._firsts[part] + (number - self._batch_starts[part]) * size
        patch = self.patch_sizes[bisect_right(self._patch_starts, number) - 1]
        return first, size, patch


def _steps(sizes: Sizes, name: str, accumulate: int) -> tuple[list[int], list[int]]:
    table = {int(k): int(v) for k, v in sizes.items()} if isinstance(sizes, Mapping) else {0: sizes}
    starts = sorted(table)
    if not starts or starts[0] != 0:
        raise UserError(f"{name} by step must say what holds from step 0, got {dict(table)}")
    if min(table.values()) < 1:
        raise UserError(f"{name} must be positive, got {min(table.values())}")
    return [start * accumulate for start in starts], [table[start] for start in starts]
