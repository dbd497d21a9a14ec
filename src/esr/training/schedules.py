"""Learning-rate schedules that torch does not have in one piece; all of them count steps."""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, SequentialLR

from esr.errors import UserError


def warmup(
    optimizer: Optimizer,
    steps: int,
    after: Callable[[Optimizer], LRScheduler],
    start: float = 0.01,
) -> LRScheduler:
    """Rise linearly to the full learning rate, then follow another schedule from its beginning.

    Args:
        optimizer: whose learning rate is scheduled.
        steps: length of the rise; 0 leaves it out.
        after: makes the schedule that follows.
        start: first learning rate as a fraction of the full one.

    Raises:
        UserError: `steps` is negative.
    """
    if steps < 0:
        raise UserError(f"schedule.steps is the length of the warm-up, at least 0; got {steps}")
    if steps == 0:
        return after(optimizer)
    rise = LinearLR(optimizer, start_factor=start, total_iters=steps)
    return SequentialLR(optimizer, [rise, after(optimizer)], milestones=[steps])
