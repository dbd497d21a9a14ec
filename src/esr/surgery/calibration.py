"""Patches to judge channels and blocks by."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import nn

from esr.errors import UserError

Batch = dict[str, torch.Tensor]
"""Pairs `lr` and `hr`, RGB (N, 3, H, W) in [0, 1]."""

Batches = Sequence[Batch]


@runtime_checkable
class TrainingData(Protocol):
    """What is asked of an `esr.training.datamodule.SRData`; it must be set up."""

    def train_dataloader(self) -> Iterable[Any]: ...

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch: ...


Data = TrainingData | Iterable[Batch]


def batches(data: Data) -> Iterator[Batch]:
    """Batches as training sees them, augmented."""
    if not isinstance(data, TrainingData):
        yield from data
        return
    for batch in data.train_dataloader():
        yield data.on_after_batch_transfer(batch, 0)


def draw(data: Data, count: int) -> Batches:
    """Up to `count` training patches of one epoch, as batches of pairs on the CPU.

    Raises:
        UserError: there are none.
    """
    found: list[Batch] = []
    missing = count
    for batch in batches(data):
        found.append({key: batch[key][:missing].float().cpu() for key in ("lr", "hr")})
        missing -= len(found[-1]["lr"])
        if missing == 0:
            break
    if not found:
        raise UserError(
            "this looks at patches, and there are no training patches: pass data as the third "
            "argument, or choose importance magnitude or random"
        )
    return found


@torch.no_grad()
def squared_error(net: nn.Module, patches: Batches) -> float:
    """PSNR's loss on the patches, averaged over batches."""
    return sum(float(F.mse_loss(net(b["lr"]), b["hr"])) for b in patches) / len(patches)
