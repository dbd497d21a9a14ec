"""At each validation, everything the challenge measures, of the weights that would be deployed.

Fidelity is that of the merged network in float32, runtime and memory are measured for a bounded
time, and the static figures are counted again only when the structure changed. Averaged (EMA)
weights are seen by themselves: Lightning swaps them in before the first validation batch.
"""

import time
from contextlib import ExitStack
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Ge
from torch import nn
from torch.utils.data import DistributedSampler

from esr.evaluation import measure as evaluation
from esr.evaluation.reference import reference_network
from esr.metrics.complexity import Complexity, complexity
from esr.surgery.fuse import fusable, fuse

TABLE = "evaluation"


class Evaluation(pl.Callback):
    """Logs `val/...` and `eff/...` at each validation, also as a table where loggers have one."""

    def __init__(
        self,
        seconds: Annotated[float, Ge(0)] = 2.0,  # of timing; 0 leaves runtime and memory out
        size: tuple[int, int] = (256, 256),  # height, width of the input that is counted and timed
        counter: str = "ntire2022",  # see `esr.metrics.complexity`
        reference: bool = True,  # time the reference network in turns, and log the ratio
    ):
        self.seconds = seconds
        self.size = (int(size[0]), int(size[1]))
        self.counter = counter
        self.reference = reference
        self.rows: list[dict[str, float]] = []
        self._reference: tuple[str, nn.Module] | None = None
        self._deploy: nn.Module | None = None
        self._fidelity: evaluation.Fidelity | None = None
        self._static: tuple[Any, Complexity] | None = None
        self._exact = ExitStack()
        self._cost = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A network which cannot take the size is refused before training.
        self._count(fuse(_net(pl_module)))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the sums, also in a process which gets no image: all of them are added up."""
        if trainer.sanity_checking:
            return
        data = getattr(trainer, "datamodule", None)
        scale = getattr(_net(pl_module), "scale", None) or getattr(data, "scale", 1)
        loaders: Any = trainer.val_dataloaders
        loaders = loaders if isinstance(loaders, (list, tuple)) else [loaders]
        names = getattr(data, "val_names", None) or [str(i) for i in range(len(loaders))]
        self._samplers = [getattr(loader, "sampler", None) for loader in loaders]
        self._fidelity = evaluation.Fidelity(names, scale, pl_module.device)
        self._cost = 0.0

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module, batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.sanity_checking or self._deploy is not None:
            return
        start = time.perf_counter()
        self._exact.enter_context(evaluation.exact_arithmetic())
        net = _net(pl_module)
        # The validation step's output serves if it is that of the merged network in float32.
        self._deploy = fuse(net).float().eval()
        self._own_forward = bool(fusable(net)) or trainer.precision != "32-true"
        self._cost = time.perf_counter() - start

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module, outputs: Any, batch, batch_idx, dataloader_idx=0
    ) -> None:
        if self._fidelity is None or self._deploy is None:
            return
        start = time.perf_counter()
        sr = self._deploy(batch["lr"].float()) if self._own_forward else outputs["sr"]
        keep = _not_repeated(self._samplers[dataloader_idx], batch_idx, len(sr))
        self._fidelity.update(sr, batch, dataloader_idx, keep)
        self._cost += time.perf_counter() - start

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the means, then the efficiency, which is measured by the first process alone."""
        if self._fidelity is None:
            return
        start = time.perf_counter()
        self._exact.close()
        found = self._fidelity.compute()
        pl_module.log_dict(found, sync_dist=trainer.world_size > 1)
        if trainer.is_global_zero and self._deploy is not None:
            found |= self._efficiency(self._deploy, pl_module.device).metrics()
            found["eff/cost_s"] = self._cost + time.perf_counter() - start
            cost = {key: value for key, value in found.items() if key.startswith("eff/")}
            pl_module.log_dict(cost, rank_zero_only=True)
            self._table(trainer, found)
        self._fidelity = self._deploy = None

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._exact.close()
        self._fidelity = self._deploy = None

    def _efficiency(self, net: nn.Module, device: torch.device) -> evaluation.Efficiency:
        if self.reference and self.seconds and self._reference is None:
            self._reference = reference_network(getattr(net, "scale", 4), device)
        return evaluation.efficiency(
            net,
            device,
            self.size,
            self.counter,
            reference=self._reference,
            seconds=self.seconds,
            known=self._count(net),
        )

    def _count(self, net: nn.Module) -> Complexity:
        structure = evaluation.structure(net)
        if self._static is None or self._static[0] != structure:
            self._static = (structure, complexity(net, self.size, self.counter))
        return self._static[1]

    def _table(self, trainer: pl.Trainer, found: dict[str, float]) -> None:
        step = trainer.global_step
        self.rows.append({"epoch": trainer.current_epoch, "step": step, **found})
        columns = list(self.rows[-1])
        for logger in trainer.loggers:
            if hasattr(logger, "log_table"):
                data = [[row.get(name) for name in columns] for row in self.rows]
                logger.log_table(TABLE, columns=columns, data=data, step=step)  # pyright: ignore

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}  # so that the table of a resumed run is whole

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


def _net(pl_module: pl.LightningModule) -> nn.Module:
    net = getattr(pl_module, "net", pl_module)
    assert isinstance(net, nn.Module)
    return net


def _not_repeated(sampler: Any, batch_idx: int, size: int) -> torch.Tensor | None:
    """Which images of a batch are no repetitions that fill a distributed sampler's last round."""
    if not isinstance(sampler, DistributedSampler):
        return None  # `SRData` gives every process images of its own
    local = torch.arange(batch_idx * size, (batch_idx + 1) * size)
    return local * sampler.num_replicas + sampler.rank < len(sampler.dataset)  # pyright: ignore
