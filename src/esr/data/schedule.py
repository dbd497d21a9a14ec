"""Batch and patch sizes as they change with the optimiser steps."""

from bisect import bisect_right
from collections.abc import Mapping

from esr.errors import UserError

Sizes = int | Mapping[int, int]
"""One size, or sizes by the optimiser step from which they hold: `{0: 128, 50000: 192}`."""


class Schedule:
    """Answers which samples batch number b of a run holds, and how large their patches are.

    Args:
        batch_size: global number of samples a batch.
        patch_size: side of the HR patches in pixels, a multiple of `scale`.
        scale: of the super-resolution.
        accumulate: batches an optimiser step.

    Raises:
        UserError: a size is not positive, a schedule does not begin at step 0, or a patch does not
            divide by the scale.
    """

    def __init__(self, batch_size: Sizes, patch_size: Sizes, scale: int, accumulate: int = 1):
        self._batch_starts, self._batch_sizes = _steps(batch_size, "data.batch_size", accumulate)
        self._patch_starts, self.patch_sizes = _steps(patch_size, "data.patch_size", accumulate)
        for size in self.patch_sizes:
            if size % scale:
                raise UserError(
                    f"data.patch_size is in HR pixels and must be a multiple of the scale {scale}, "
                    f"got {size}: take {size // scale * scale or scale}"
                )
        self._firsts = [0]
        for start, following, size in zip(
            self._batch_starts, self._batch_starts[1:], self._batch_sizes, strict=False
        ):
            self._firsts.append(self._firsts[-1] + (following - start) * size)

    @property
    def batch_sizes(self) -> list[int]:
        """Every batch size that occurs."""
        return self._batch_sizes

    def batch(self, number: int) -> tuple[int, int, int]:
        """(first sample, samples, side of the HR patches) of a batch."""
        part = bisect_right(self._batch_starts, number) - 1
        size = self._batch_sizes[part]
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
