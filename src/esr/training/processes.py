"""The processes of a run: who started this one, which leads, and what has to fit between them."""

import os
import subprocess
from collections.abc import Sequence

import pytorch_lightning as pl

from esr.console import say
from esr.errors import UserError


def follows() -> bool:
    """Whether this is one of the further processes of a distributed run: the first one decides."""
    if started_together()[0] == "srun":
        return int(os.environ["SLURM_PROCID"]) > 0
    local = os.environ.get("LOCAL_RANK", 0)
    return int(os.environ.get("RANK", local)) > 0 or int(os.environ.get("NODE_RANK", 0)) > 0


def started_together() -> tuple[str, int]:
    """Who started this process with its like, and how many they are; ("", 1) if nobody did.

    An interactive SLURM allocation counts as nobody, as it does for Lightning.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun", int(os.environ.get("WORLD_SIZE", 1))
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if {"SLURM_NTASKS", "SLURM_PROCID"} <= os.environ.keys() and not interactive:
        return "srun", int(os.environ["SLURM_NTASKS"])
    return "", 1


def slurm_job() -> str:
    """The job that this process belongs to, as `scontrol` names it; empty outside SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def requeue(job: str) -> None:
    """Put a SLURM job back into the queue, and say whether that worked."""
    try:
        subprocess.run(
            ["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip()
        say(f"SLURM job {job} could not be queued again: {detail}")
    else:
        say(f"SLURM job {job} is queued again")


def require_fitting(trainer: pl.Trainer, batch_sizes: Sequence[int], alone: bool = True) -> None:
    """See that batches, processes and devices fit together, before any process is started.

    The sizes are those of all processes together; `alone` says that no other job of a sweep runs in
    this process. UserError where something does not fit.
    """
    world = trainer.num_devices * trainer.num_nodes
    starter, processes = started_together()
    if starter and processes != world:
        raise UserError(
            f"{starter} started {processes} process(es), but this trainer is for {world}: type "
            f"trainer=ddp trainer.devices={max(1, processes // trainer.num_nodes)}"
        )
    for size in batch_sizes:
        if size % world:
            raise UserError(
                f"data.batch_size={size} is that of all {world} devices together and does not "
                f"divide among them: type data.batch_size={max(1, round(size / world)) * world}"
            )
    if not alone and world > 1 and not starter:
        # Lightning would start them with the command that was typed: the whole sweep, in each.
        raise UserError(
            f"a job of a sweep cannot start {world} processes itself: take trainer.devices=1 and "
            "run several jobs at once, or let SLURM start them, hydra/launcher=slurm_ddp"
        )
