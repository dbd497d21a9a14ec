"""Pruning while training: what its methods share.

A callback never makes the network smaller: that is surgery, between stages
(`esr.surgery.prune.Prune`). It prepares the network, so that what is taken out has learnt to be
missed. Which channels, and how far, goes into the checkpoint; a resumed run continues exactly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from esr import evaluation
from esr.errors import UserError
from esr.surgery.fuse import fusable
from esr.surgery.pruning import budget, rebuild
from esr.surgery.pruning.graph import Slot, written
from esr.surgery.pruning.importance import Importance
from esr.surgery.pruning.widths import Structure, analyse, replace


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
