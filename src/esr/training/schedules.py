"""Learning-rate schedules that torch does not have in one piece; all of them count steps."""

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Interval
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, SequentialLR

from esr.errors import UserError


def warmup(
    optimizer: Optimizer,
    steps: Annotated[int, Ge(0)],  # length of the rise; 0 leaves it out
    after: Callable[[Optimizer], LRScheduler],
    start: Annotated[float, Interval(gt=0, le=1)] = 0.01,  # first rate in units of the full one
) -> LRScheduler:
    """Rise linearly to the full learning rate, then follow another schedule from its beginning."""
    if steps < 0:
        raise UserError(f"schedule.steps is the length of the warm-up, at least 0; got {steps}")
    if steps == 0:
        return after(optimizer)
    rise = LinearLR(optimizer, start_factor=start, total_iters=steps)
    return SequentialLR(optimizer, [rise, after(optimizer)], milestones=[steps])
