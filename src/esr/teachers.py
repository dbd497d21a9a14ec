"""Where the teacher of a distillation comes from, in a configuration."""

from pathlib import Path

from torch import nn

from esr import checkpoints, zoo
from esr.errors import UserError


def load(source: str | None) -> nn.Module:
    """Load a network with its weights.

    Args:
        source: a challenge entry with its official weights ("ntire2022/rfdn"), a run folder, or a
            file of weights. In a recipe the name of an earlier stage stands for its folder.

    Raises:
        UserError: none is named, or there is no such thing.
    """
    if not source:
        raise UserError(
            "the distillation loss needs a teacher: loss.NAME.teacher.source=ntire2022/rfdn, a run "
            "folder, a file of weights or, in a recipe, an earlier stage"
        )
    if not Path(source).exists() and source.count("/") == 1:
        return zoo.load(source)
    return checkpoints.load(source)
