"""Soft filter pruning, said to be what RLFN's authors used for the winner of NTIRE 2022."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging

from esr.callbacks.pruning import ChannelCallback, network
from esr.errors import UserError
from esr.surgery.pruning.importance import FilterNorm


class SoftPruning(ChannelCallback):
    """Soft filter pruning (He et al., IJCAI 2018): the weakest filters are zeroed, and may return.

    At the end of every epoch the filters of the channels with the smallest norm become zero;
    training goes on with all of them, and next time others may be the weakest. Validation sees the
    network without them, so the best checkpoint is the best *pruned* one. Take them out in the next
    stage with the same widths and `esr.surgery.pruning.importance.FilterNorm`.

    Args:
        model: see `ChannelCallback`.
        widths: see `ChannelCallback`.
        folder: see `ChannelCallback`.
        measure: see `ChannelCallback`.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See `ChannelCallback`.

        Raises:
            UserError: weights are averaged.
        """
        if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # pyright: ignore[reportAttributeAccessIssue]
            raise UserError(
                "soft pruning zeroes filters, and an average of the weights brings them back: "
                "leave it out of this stage, callbacks=[default,soft_pruning]"
            )
        super().on_fit_start(trainer, pl_module)

    def on_train_batch_end(  # noqa: D102
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        last = trainer.global_step == trainer.max_steps
        if trainer.is_last_batch or last:
            self._prune(trainer, pl_module)

    def _prune(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        net, device = network(pl_module), pl_module.device
        before = self.psnr(trainer, net, device)
        old = [set(index.tolist()) for index in self.kept]
        self.choose(pl_module, FilterNorm())
        tensors = net.state_dict()
        with torch.no_grad():
            for (name, dim), index in self.gone(only_written=True).items():
                tensors[name].index_fill_(dim, index.to(tensors[name].device), 0)
        after = self.psnr(trainer, net, device)
        returned = sum(
            len(set(index.tolist()) - known) for index, known in zip(self.kept, old, strict=False)
        )
        facts = {f"{name}_before": value for name, value in before.items()}
        facts |= {f"{name}_after": value for name, value in after.items()}
        self.tell(trainer, pl_module, returned=float(returned), **facts)
