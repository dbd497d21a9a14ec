"""What the device does with a batch before the network sees it."""

import torch

from esr.data.augment import finished
from esr.data.degradation import Degradation, hash_uniform
from esr.data.mixing import cutblur, mixup
from esr.errors import UserError

Batch = dict[str, torch.Tensor]


class Finishing:
    """From uint8 patches and their codes to `{"lr", "hr"}`, float RGB NCHW in [0, 1].

    Args:
        degradation: makes LR worse than bicubic; None: leaves it.
        mixup: probability that two neighbouring patches are blended.
        cutblur: probability that a box of LR stays clean (or everything else does).

    Raises:
        UserError: a probability is out of bounds, or CutBlur has nothing to undo.
    """

    def __init__(
        self, degradation: Degradation | None = None, mixup: float = 0.0, cutblur: float = 0.0
    ):
        for name, value in (("mixup", mixup), ("cutblur", cutblur)):
            if not 0 <= value <= 1:
                raise UserError(f"data.{name} is a probability in [0, 1], got {value}")
        if cutblur and degradation is None:
            raise UserError(
                "data.cutblur swaps degraded for clean LR, so it changes nothing without a "
                "degradation: type data/degradation=realistic, or data.cutblur=0"
            )
        self._degradation, self._mixup, self._cutblur = degradation, mixup, cutblur

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """Finish a batch of `PatchBatches`, or one that the device's store already laid out."""
        lr, hr, seed = batch["lr"], batch["hr"], batch["seed"]
        if "code" in batch:
            lr, hr = (finished(x, batch["code"], batch.get("channels")) for x in (lr, hr))
        if self._degradation is not None:
            lr = self._degradation(lr, hr, seed)
        draws = hash_uniform(seed ^ 0x6D6978, 8) if self._mixup or self._cutblur else None
        if draws is not None and self._cutblur:
            lr = cutblur(lr, hr, draws[:, :6], self._cutblur)
        if draws is not None and self._mixup:
            lr, hr = mixup(lr, hr, draws[:, 6:], self._mixup)
        return {"lr": lr, "hr": hr}
