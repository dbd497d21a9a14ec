"""The file of a deployed network: safetensors that carry the network's configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esr.build import construct
from esr.config import plain
from esr.errors import UserError
from esr.files import write_tensors
from esr.models.state import mismatch
from esr.surgery.fuse import deploy_config, fuse


def save_deploy(
    net: nn.Module,  # training or deploy form; it is left as it is
    model_cfg: Mapping[str, Any],  # that built it
    path: Path | str,
    metadata: Mapping[str, Any] | None = None,  # more to keep (scale, name, metrics); JSON values
) -> None:
    """Write the fused network as safetensors that carry their own configuration.

    The file appears complete or not at all.

    Raises:
        UserError: the configuration does not build the fused network, so nobody could load it.
    """
    path = Path(path)
    config = deploy_config(plain(model_cfg))
    state = fuse(net).state_dict()
    with torch.random.fork_rng(devices=[]):  # building must not move the run's random numbers
        twin = construct(config)
    if problem := mismatch(state, twin.state_dict()):
        raise UserError(f"the configuration of {path.name} does not build its network: {problem}")
    write_tensors(path, state, {**(metadata or {}), "model": config})
