"""Pruning while training: what its methods share.

A callback never makes the network smaller: that is surgery, between stages
(`esr.surgery.prune.Prune`). It prepares the network, so that what is taken out has learnt to be
missed. Which channels, and how far, goes into the checkpoint; a resumed run continues exactly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn

from esr.errors import UserError
from esr.evaluation import measure as evaluation
from esr.surgery import budget, rebuild
from esr.surgery.channels import Slot, written
from esr.surgery.fuse import fusable
from esr.surgery.importance import FilterNorm, Importance, Magnitude
from esr.surgery.widths import Structure, analyse, replace


class ChannelCallback(pl.Callback):
    """What both methods share: the smaller network they aim at, the choice, and telling about it.

    Args:
        model: configuration of the network that is trained.
        widths: what its constructor arguments shall become, such as `{"width": 46}`.
        folder: where `pruning.jsonl` is written, a line an epoch; None: nowhere.
        measure: validate again without the channels that are to go, if validation does not show it.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        widths: Mapping[str, Any] | None,
        folder: str | Path | None = None,
        measure: bool = True,
    ):
        self.model, self.widths = dict(model), dict(widths or {})
        self.folder = Path(folder) if folder is not None else None
        self.measure = measure
        self.kept: list[torch.Tensor] = []
        self._structure: Structure | None = None
        self._counts: list[int] = []
        self._goal: dict[str, float] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the network apart and see that it can become what is wanted.

        Raises:
            UserError: it cannot, or it is in training form.
        """
        net = network(pl_module)
        if not self.widths:
            raise UserError(
                f"{type(self).__name__} needs to know where to: widths={{NAME: NUMBER}} with the "
                f"widths of {type(net).__name__}, such as {{width: 46}}"
            )
        if fusable(net):
            raise UserError(
                "pruning while training needs plain convolutions, and these merge only later: "
                "train with conv=null, or fuse in an earlier stage"
            )
        structure = analyse(net, self.model)
        smaller = replace(structure, self.widths)
        try:
            self._counts = structure.counts(smaller)
        except rebuild.Inexpressible as error:
            raise UserError(f"widths={self.widths} cannot be reached: {error}") from None
        self._structure = structure
        cost = budget.count(smaller)
        self._goal = {
            "prune/params_m": cost.params / 1e6,
            "prune/flops_g": cost.flops / 1e9,
            "prune/acts_m": cost.acts / 1e6,
        }

    @property
    def structure(self) -> Structure:
        """Of the network in training."""
        assert self._structure is not None, "only known while fitting"
        return self._structure

    def state_dict(self) -> dict[str, Any]:
        """The choice that is in force."""
        return {"widths": self.widths, "kept": [index.tolist() for index in self.kept]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the choice of a checkpoint.

        Raises:
            UserError: it was made for other widths.
        """
        if state_dict["widths"] != self.widths:
            raise UserError(
                f"this run was pruned towards widths={state_dict['widths']} and cannot go on "
                f"towards {self.widths}: start a new run with init=RUN"
            )
        self.kept = [torch.tensor(index, dtype=torch.int64) for index in state_dict["kept"]]

    def choose(self, pl_module: pl.LightningModule, measure: Importance) -> None:
        """Keep the best channels by a measure that needs no patches."""
        segments, net = self.structure.segments, network(pl_module)
        plain = rebuild.build(self.structure.config, net.state_dict())
        self.kept = rebuild.strongest(measure(plain, segments, ()), self._counts)

    def gone(self, only_written: bool) -> dict[Slot, torch.Tensor]:
        """Indices of what is to go in every tensor: all of it, or the filters alone."""
        found: dict[Slot, list[torch.Tensor]] = {}
        for segment, kept in zip(self.structure.segments, self.kept, strict=True):
            lost = torch.ones(segment.size, dtype=torch.bool)
            lost[kept] = False
            slots = written(segment, self.structure.net) if only_written else list(segment.rows)
            for slot in slots:
                found.setdefault(slot, []).append(segment.rows[slot][lost].flatten())
        return {slot: torch.cat(indices) for slot, indices in found.items()}

    def tell(self, trainer: pl.Trainer, pl_module: pl.LightningModule, **facts: float) -> None:
        """Log the figures, and write which channels of which layer stay."""
        values = {**self._goal, **{f"prune/{name}": value for name, value in facts.items()}}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        if self.folder is None or not trainer.is_global_zero:
            return
        layers = {
            ", ".join(segment.writers): kept.tolist()
            for segment, kept in zip(self.structure.segments, self.kept, strict=True)
            if len(kept) < segment.size
        }
        line = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            **values,
            "kept": layers,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "pruning.jsonl"
        known = path.read_text().splitlines() if path.is_file() else []
        # A run resumed from an older checkpoint tells what followed it again.
        earlier = [text for text in known if json.loads(text)["step"] < line["step"]]
        path.write_text("\n".join([*earlier, json.dumps(line)]) + "\n")

    def psnr(self, trainer: pl.Trainer, net: nn.Module, device: torch.device) -> dict[str, float]:
        """PSNR (RGB) on the first validation set, by the first process; empty if there is none."""
        data: Any = getattr(trainer, "datamodule", None)
        if not self.measure or data is None or not data.val_names or not trainer.is_global_zero:
            return {}
        training = net.training
        data.trainer = None  # all validation images, not this process's share
        try:
            found = evaluation.fidelity(net.eval(), data, device)
        finally:
            data.trainer = trainer
            net.train(training)
        return {"psnr": found["val/psnr_rgb"]}


def network(pl_module: pl.LightningModule) -> nn.Module:
    """The network that a module trains."""
    net = pl_module.net
    assert isinstance(net, nn.Module)
    return net


# Soft filter pruning, said to be what RLFN's authors used for the winner of NTIRE 2022.


class SoftPruning(ChannelCallback):
    """Soft filter pruning (He et al., IJCAI 2018): the weakest filters are zeroed, and may return.

    At the end of every epoch the filters of the channels with the smallest norm become zero;
    training goes on with all of them, and next time others may be the weakest. Validation sees the
    network without them, so the best checkpoint is the best *pruned* one. Take them out in the next
    stage with the same widths and `esr.surgery.importance.FilterNorm`.

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

    def on_train_batch_end(
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


# Gradual pruning: a penalty that grows until the chosen channels are dispensable.


class GrowingPenalty(ChannelCallback):
    """Regularisation of the channels that are to go, ever stronger, until they are dispensable.

    `l2` shrinks them in proportion (growing regularisation, Wang et al., ICLR 2021), `lasso` by a
    constant length of the whole group, which reaches zero (group lasso, Wen et al., NeurIPS 2016).
    It acts after the optimiser's step, decoupled from it, since Adam would divide a penalty in the
    gradient by itself. The weakest channels by group norm are chosen once, when training starts.

    Args:
        model: see `ChannelCallback`.
        widths: see `ChannelCallback`.
        kind: l2 or lasso.
        step: what is added to the penalty each time.
        every: optimiser steps between two additions.
        ceiling: largest penalty.
        folder: see `ChannelCallback`.
        measure: see `ChannelCallback`.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        widths: Mapping[str, Any] | None,
        kind: Literal["l2", "lasso"] = "l2",
        step: float = 0.1,
        every: int = 10,
        ceiling: float = 1000.0,
        folder: str | Path | None = None,
        measure: bool = True,
    ):
        super().__init__(model, widths, folder, measure)
        if kind not in ("l2", "lasso"):
            raise UserError(f"kind={kind}: choose l2 or lasso")
        if step <= 0 or every < 1:
            raise UserError(f"step={step}, every={every}: both must be positive")
        self.kind, self.step, self.every, self.ceiling = kind, step, every, ceiling
        self._rows: dict[Slot, torch.Tensor] = {}
        self._begun = 0.0

    def penalty(self, step: int) -> float:
        """The penalty at an optimiser step."""
        return min(self.ceiling, self.step * (1 + step // self.every))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose, unless a checkpoint has."""
        if not self.kept:
            self.choose(pl_module, Magnitude())
        self._rows = {
            slot: index.to(pl_module.device)
            for slot, index in self.gone(only_written=False).items()
        }
        self._begun = self._begun or self._norm(pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        rate = max(
            group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups
        )
        shrink = rate * self.penalty(trainer.global_step)
        if self.kind == "l2":
            factor = max(0.0, 1.0 - shrink)
        else:
            factor = max(0.0, 1.0 - shrink / max(self._norm(pl_module), 1e-12))
        tensors = network(pl_module).state_dict()
        with torch.no_grad():
            for (name, dim), index in self._rows.items():
                if not tensors[name].is_floating_point():
                    continue
                rows = tensors[name].index_select(dim, index)
                tensors[name].index_copy_(dim, index, rows * factor)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell how much is left of what is to go, and what its removal would cost now."""
        net, device = network(pl_module), pl_module.device
        facts = {f"{k}_before": v for k, v in self.psnr(trainer, net, device).items()}
        if facts:
            state = rebuild.silence(net.state_dict(), self.structure.segments, self.kept)
            silenced = rebuild.build(self.structure.config, state).to(device)
            facts |= {f"{k}_after": v for k, v in self.psnr(trainer, silenced, device).items()}
        left = self._norm(pl_module) / max(self._begun, 1e-12)
        self.tell(trainer, pl_module, penalty=self.penalty(trainer.global_step), left=left, **facts)

    def state_dict(self) -> dict[str, Any]:
        """The choice, and the norm of what is to go when it was made."""
        return {**super().state_dict(), "begun": self._begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `ChannelCallback`."""
        super().load_state_dict(state_dict)
        self._begun = state_dict["begun"]

    def _norm(self, pl_module: pl.LightningModule) -> float:
        tensors = network(pl_module).state_dict()
        squares = [
            tensors[name].detach().index_select(dim, index).float().square().sum()
            for (name, dim), index in self._rows.items()
        ]
        return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
