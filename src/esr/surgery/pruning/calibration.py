"""Patches to judge channels by."""

from collections.abc import Iterable
from typing import Any

import torch

from esr.errors import UserError
from esr.surgery.pruning.importance import Batches


def draw(data: Any, count: int) -> Batches:
    """Up to `count` training patches of one epoch, as batches of pairs on the CPU.

    Args:
        data: an `esr.datamodule.SRData` that is set up, or an iterable of `{"lr", "hr"}`.
        count: patches.

    Raises:
        UserError: there is no data.
    """
    if data is None:
        raise UserError(
            "this importance looks at patches, and there is no data: pass it as the third "
            "argument, or choose importance magnitude or random"
        )
    batches: Iterable[Any] = data.train_dataloader() if hasattr(data, "train_dataloader") else data
    finish = getattr(data, "on_after_batch_transfer", lambda batch, _: batch)
    found: list[dict[str, torch.Tensor]] = []
    missing = count
    for given in batches:
        batch = finish(given, 0)
        found.append({key: batch[key][:missing].float().cpu() for key in ("lr", "hr")})
        missing -= len(found[-1]["lr"])
        if missing == 0:
            break
    if not found:
        raise UserError("the data to calibrate with has no training patches")
    return found
