"""One training run as Lightning sees it: steps and optimisers, nothing else.

Metrics, pictures, EMA and pruning are callbacks; whatever replaces the network happens between
stages. So this module never changes when a recipe does.
"""

from collections.abc import Callable, Iterable

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Batch = dict[str, torch.Tensor]


class SuperResolution(pl.LightningModule):
    """Trains `net` on pairs of low and high resolution images."""

    def __init__(
        self,
        net: nn.Module,  # RGB (N, 3, H, W) in [0, 1] to (N, 3, scale*H, scale*W)
        loss: nn.Module,  # called as loss(sr, hr, lr); `WeightedLoss` names its terms
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,  # steps with the optimiser
    ):
        super().__init__()
        self.net = net
        self.loss = loss
        self._optimizer = optimizer
        self._scheduler = scheduler

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self.net(lr)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss of this process's share of a batch.

        It is logged as the mean over all processes, with its terms by name when there are several.
        """
        loss = self.loss(self.net(batch["lr"]), batch["hr"], batch["lr"])
        terms = getattr(self.loss, "last", {})
        named = {f"train/{name}": value for name, value in terms.items()} if len(terms) > 1 else {}
        values = self._over_processes({"train/loss": loss, **named})
        size = len(batch["lr"])
        self.log("train/loss", values.pop("train/loss"), prog_bar=True, batch_size=size)
        self.log_dict(values, batch_size=size)
        return loss

    def validation_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, torch.Tensor]:
        """The super-resolved image, for the callbacks to look at."""
        return {"sr": self.net(batch["lr"])}

    def _over_processes(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Means over all processes, but only in steps that are logged: it makes them wait."""
        if not (dist.is_available() and dist.is_initialized()):
            return values
        step = self.global_step + 1
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        last = self.trainer.is_last_batch or step == self.trainer.max_steps
        if not last and (not every or step % every):
            return values
        own = torch.stack([value.detach().float() for value in values.values()])
        means = self.trainer.strategy.reduce(own, reduce_op="mean")
        assert isinstance(means, torch.Tensor)
        return dict(zip(values, means, strict=True))

    def configure_optimizers(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        """The optimiser over everything trainable (a loss may have adapters), and its schedule."""
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        if self._scheduler is None:
            return optimizer
        schedule = {"scheduler": self._scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}
