"""Pruning while training: soft filter pruning, and a penalty that grows.

A callback never makes the network smaller: that is surgery, between stages
(`esr.surgery.prune.Prune`). It prepares the network, so that what is taken out has learnt to be
missed. Which channels, and how far, goes into the checkpoint; a resumed run continues exactly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
import torch
from annotated_types import Ge, Gt
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn

from esr.errors import UserError
from esr.evaluation.measure import fidelity
from esr.surgery import rebuild
from esr.surgery.budget import count_costs
from esr.surgery.channels import Slot, computes, gone
from esr.surgery.fuse import fusable
from esr.surgery.importance import FilterNorm, Importance, Magnitude
from esr.surgery.widths import Structure, analyse, set_widths


class ChannelCallback(pl.Callback):
    """What both methods share: the smaller network that they aim at, the choice, the telling."""

    structure: Structure  # of the network in training, known while fitting

    def __init__(
        self,
        model: Mapping[str, Any],  # configuration of the network that is trained
        widths: Mapping[str, Any] | None,  # what its arguments shall become: `{"width": 46}`
        folder: str | Path | None = None,  # gets `pruning.jsonl`, a line an epoch; None: nowhere
        measure: bool = True,  # validate again without what is to go, if validation does not
    ):
        self.model, self.widths = dict(model), dict(widths or {})
        self.folder = Path(folder) if folder is not None else None
        self.measure = measure
        self.kept: list[torch.Tensor] = []
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
        self.structure = analyse(net, self.model)
        smaller = set_widths(self.structure, self.widths)
        self._counts = self.structure.counts(smaller)
        cost = count_costs(smaller)
        self._goal = {"params_m": cost.params / 1e6, "flops_g": cost.flops / 1e9}
        self._goal["acts_m"] = cost.acts / 1e6

    def state_dict(self) -> dict[str, Any]:
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

    def choose(self, net: nn.Module, importance: Importance) -> dict[Slot, torch.Tensor]:
        """Keep the best channels by a measure that needs no patches; the rows of the others."""
        plain = rebuild.build_network(self.structure.config, net.state_dict())
        scores = importance(plain, self.structure.segments, ())
        self.kept = rebuild.strongest(scores, self._counts)
        return gone(self.structure.segments, self.kept)

    def tell(self, trainer: pl.Trainer, facts: Mapping[str, float]) -> None:
        """Log the figures, and write which channels of which layer stay."""
        values = {f"prune/{name}": value for name, value in {**self._goal, **facts}.items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        if self.folder is None or not trainer.is_global_zero:
            return
        layers = {
            ", ".join(segment.writers): kept.tolist()
            for segment, kept in zip(self.structure.segments, self.kept, strict=True)
            if len(kept) < segment.size
        }
        step = trainer.global_step
        line = {"epoch": trainer.current_epoch, "step": step, **values, "kept": layers}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "pruning.jsonl"
        known = path.read_text().splitlines() if path.is_file() else []
        # A run resumed from an older checkpoint tells what followed it again.
        earlier = [text for text in known if json.loads(text)["step"] < step]
        path.write_text("\n".join([*earlier, json.dumps(line)]) + "\n")

    def psnr(self, trainer: pl.Trainer, net: nn.Module, name: str) -> dict[str, float]:
        """PSNR (RGB) on the first validation set, by the first process; empty if there is none."""
        data: Any = getattr(trainer, "datamodule", None)
        if not self.measure or data is None or not data.val_names or not trainer.is_global_zero:
            return {}
        training = net.training
        data.trainer = None  # all validation images, not this process's share
        try:
            found = fidelity(net, data, next(net.parameters()).device)
        finally:
            data.trainer = trainer
            net.train(training)
        return {name: found["val/psnr_rgb"]}


def network(pl_module: pl.LightningModule) -> nn.Module:
    """The network that a module trains."""
    net = pl_module.net
    assert isinstance(net, nn.Module)
    return net


class SoftPruning(ChannelCallback):
    """Soft filter pruning (He et al., IJCAI 2018): the weakest filters are zeroed, and may return.

    Said to be what RLFN's authors used for the winner of NTIRE 2022. At the end of every epoch the
    filters of the channels with the smallest norm become zero; training goes on with all of them,
    and next time others may be the weakest. Validation sees the network without them, so the best
    checkpoint is the best *pruned* one. Take them out in the next stage with the same widths and
    `esr.surgery.importance.FilterNorm`. Its arguments are those of `ChannelCallback`.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
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
        if trainer.is_last_batch or trainer.global_step == trainer.max_steps:
            self._prune(trainer, network(pl_module))

    @torch.no_grad()
    def _prune(self, trainer: pl.Trainer, net: nn.Module) -> None:
        facts = self.psnr(trainer, net, "psnr_before")
        old = [set(index.tolist()) for index in self.kept]
        tensors = net.state_dict()
        for (name, dim), rows in self.choose(net, FilterNorm()).items():
            if computes(net, (name, dim)):  # who reads the channel stays, for it may return
                tensors[name].index_fill_(dim, rows.to(tensors[name].device), 0)
        facts |= self.psnr(trainer, net, "psnr_after")
        pairs = zip(self.kept, old, strict=False)  # nothing is old the first time
        returned = sum(len(set(index.tolist()) - known) for index, known in pairs)
        self.tell(trainer, {"returned": float(returned), **facts})


class GrowingPenalty(ChannelCallback):
    """Regularisation of the channels that are to go, ever stronger, until they are dispensable.

    `l2` shrinks them in proportion (growing regularisation, Wang et al., ICLR 2021), `lasso` by a
    constant length of the whole group, which reaches zero (group lasso, Wen et al., NeurIPS 2016).
    It acts after the optimiser's step, decoupled from it, since Adam would divide a penalty in the
    gradient by itself. The weakest channels by group norm are chosen once, when training starts.
    """

    def __init__(
        self,
        model: Mapping[str, Any],  # like widths, folder and measure, see `ChannelCallback`
        widths: Mapping[str, Any] | None,
        kind: Literal["l2", "lasso"] = "l2",
        step: Annotated[float, Gt(0)] = 0.1,  # what is added to the penalty each time
        every: Annotated[int, Ge(1)] = 10,  # optimiser steps between two additions
        ceiling: float = 1000.0,  # largest penalty
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
        net = network(pl_module)
        if not self.kept:  # else a checkpoint has chosen
            self.choose(net, Magnitude())
        rows = gone(self.structure.segments, self.kept)
        self._rows = {slot: index.to(pl_module.device) for slot, index in rows.items()}
        self._begun = self._begun or self._norm(net)

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        net = network(pl_module)
        rates = [group["lr"] for o in trainer.optimizers for group in o.param_groups]
        shrink = max(rates) * self.penalty(trainer.global_step)
        if self.kind == "lasso":
            shrink /= max(self._norm(net), 1e-12)
        tensors = net.state_dict()
        for (name, dim), index in self._rows.items():
            if tensors[name].is_floating_point():
                rows = tensors[name].index_select(dim, index) * max(0.0, 1.0 - shrink)
                tensors[name].index_copy_(dim, index, rows)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell how much is left of what is to go, and what its removal would cost now."""
        net = network(pl_module)
        facts = self.psnr(trainer, net, "psnr_before")
        if facts:
            state = rebuild.silence(net.state_dict(), self.structure.segments, self.kept)
            silenced = rebuild.build_network(self.structure.config, state)
            facts |= self.psnr(trainer, silenced.to(pl_module.device), "psnr_after")
        left = self._norm(net) / max(self._begun, 1e-12)
        self.tell(trainer, {"penalty": self.penalty(trainer.global_step), "left": left, **facts})

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "begun": self._begun}  # the norm when the choice was made

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._begun = state_dict["begun"]

    def _norm(self, net: nn.Module) -> float:
        """Of everything that is to go."""
        tensors = net.state_dict()
        squares = [
            tensors[name].index_select(dim, index).float().square().sum()
            for (name, dim), index in self._rows.items()
        ]
        return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
