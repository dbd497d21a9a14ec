"""Progressive re-parameterisation: merge branches into the main one while training goes on.

A merged branch either starts afresh (new weights, zero contribution: the block's function does not
change, but it has new directions to learn in) or is retired, so that later steps cost less. The
parameters stay the same objects with the same shapes all along, which keeps the optimiser, its
schedule and every checkpoint valid.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn

from esr.errors import UserError
from esr.models.reparam.block import Block


class ProgressiveMerge(pl.Callback):
    """Merges branches every so many optimiser steps, and some of them for good.

    The optimiser forgets what it knew about the merged branches' parameters and keeps the rest. An
    average of the weights (EMA) is treated in the same way at the same step. All of it depends on
    the step alone and leaves the run's random numbers untouched: a resumed run is exact.

    Args:
        every: optimiser steps between two merges; 0 for none but `retire`.
        branches: names of the branches to merge, as in `Block.branches`; None for all but the main
            one. A name counts if one block of the network has it.
        retire: branches to merge for good, by the optimiser step.
        seed: of the new weights.
    """

    def __init__(
        self,
        every: int = 1000,
        branches: Sequence[str] | None = None,
        retire: Mapping[int, Sequence[str]] | None = None,
        seed: int = 0,
    ):
        self.every = every
        self.branches = None if branches is None else list(branches)
        self.retire = {int(step): list(names) for step, names in (retire or {}).items()}
        self.seed = seed
        self._merges = 0
        self._retired: list[str] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the names, and skip again what was retired before a resumed run stopped.

        Raises:
            UserError: the network has no blocks or none with such a branch, or branches would be
                retired while several processes train.
        """
        known = sorted({name for block in _blocks(pl_module) for name in block.mergeable()})
        if not known:
            raise UserError(
                "progressive merging needs re-parameterised blocks with branches to merge; choose "
                "some, for example with conv=ecb"
            )
        wanted = [*(self.branches or []), *(n for names in self.retire.values() for n in names)]
        for name in wanted:
            if name not in known:
                raise UserError(f"no block has a branch {name!r} to merge: {', '.join(known)}")
        if self.retire and trainer.world_size > 1:
            raise UserError("branches can be retired by a single process only; leave `retire` out")
        for net in _copies(trainer, pl_module):
            for block in _blocks(net):
                block.retire(set(self._retired) & set(block.mergeable()))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Merge what is due, between two optimiser steps."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        for due in sorted(self.retire):
            fresh = [name for name in self.retire[due] if name not in self._retired]
            if due <= step and fresh:
                self._merge(trainer, pl_module, fresh, retire=True)
                self._retired += fresh
        if self.every and step // self.every > self._merges:
            self._merges = step // self.every
            self._merge(trainer, pl_module, self.branches, retire=False)

    def _merge(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        names: Sequence[str] | None,
        retire: bool,
    ) -> None:
        for net in _copies(trainer, pl_module):
            # The same seed for the weights and their average, whose new branches must agree.
            with torch.random.fork_rng():
                torch.manual_seed(self.seed + trainer.global_step)
                for block in _blocks(net):
                    chosen = [
                        name
                        for name in block.mergeable()
                        if (names is None or name in names) and name not in block.retired
                    ]
                    if chosen:
                        block.absorb(chosen, retire)
                        _forget(trainer.optimizers, block, chosen)

    def state_dict(self) -> dict[str, Any]:
        return {"merges": self._merges, "retired": self._retired}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._merges = state_dict["merges"]
        self._retired = list(state_dict["retired"])


def _blocks(net: nn.Module) -> list[Block]:
    net = getattr(net, "net", net)  # of a Lightning module: not the loss's teacher
    return [module for module in net.modules() if isinstance(module, Block)]


def _copies(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[nn.Module]:
    """The module, and its average where one is kept."""
    yield pl_module
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        average = getattr(callback, "_average_model", None)
        if isinstance(callback, WeightAveraging) and average is not None:
            yield average.module


def _forget(optimizers: list[torch.optim.Optimizer], block: Block, names: Sequence[str]) -> None:
    for name in names:
        for parameter in block.branches[name].parameters():
            parameter.grad = None
            for optimizer in optimizers:
                optimizer.state.pop(parameter, None)
