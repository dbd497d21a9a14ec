"""What has to fit before several processes train one network, said before they start."""

import pytorch_lightning as pl

from esr.data.sampling import Schedule
from esr.errors import UserError
from esr.training import folder as runs
from esr.training.datamodule import SRData


def check(trainer: pl.Trainer, data: SRData, sweep: bool = False) -> None:
    """See that batch, processes and devices fit together.

    Args:
        trainer: has not started its processes yet.
        data: its batch size is that of all processes together.
        sweep: this is one of several jobs that run in this process.

    Raises:
        UserError: they do not; nothing was trained yet.
    """
    world = trainer.num_devices * trainer.num_nodes
    starter, processes = runs.started_together()
    if starter and processes != world:
        raise UserError(
            f"{starter} started {processes} process(es), but this trainer is for {world}: type "
            f"trainer=ddp trainer.devices={max(1, processes // trainer.num_nodes)}"
        )
    for size in Schedule(data.batch_size, data.patch_size, data.scale).batch_sizes:
        if size % world:
            raise UserError(
                f"data.batch_size={size} is that of all {world} devices together and does not "
                f"divide among them: type data.batch_size={max(1, round(size / world)) * world}"
            )
    if sweep and world > 1 and not starter:
        # Lightning would start them with the command that was typed: the whole sweep, in each.
        raise UserError(
            f"a job of a sweep cannot start {world} processes itself: take trainer.devices=1 and "
            "run several jobs at once, or let SLURM start them, hydra/launcher=slurm_ddp"
        )
