"""What the device does with a batch before the network sees it, by the numbers the sampler drew.

Flips, turns and permuted colours are exact. Mixup and CutBlur mix pixels; a patch's partner is its
neighbour in the run (samples 2k and 2k+1), so that the result does not depend on how a batch is
divided among devices.
"""

from fractions import Fraction

import torch

from esr.data.degradation import Degradation, Probability, hash_uniform
from esr.data.resize import resize
from esr.errors import UserError

Batch = dict[str, torch.Tensor]
"""Of patches as they lie in the images (`PatchBatches`), or finished: `{"lr", "hr"}`."""

PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def dihedral(x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Apply to each patch (N, S, S, C) its element of the dihedral group, (N,) in 0..7.

    Bit 0 of the code mirrors left to right, bit 1 top to bottom, bit 2 then transposes: together
    the four rotations by 90 degrees and their mirrored versions.
    """
    bits = code.view(-1, 1, 1, 1)
    x = torch.where((bits & 1).bool(), x.flip(2), x)
    x = torch.where((bits & 2).bool(), x.flip(1), x)
    return torch.where((bits & 4).bool(), x.transpose(1, 2), x)


def permute_channels(x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Permute the colours of each patch (N, H, W, 3) by its row of `PERMUTATIONS`, (N,) in 0..5."""
    table = torch.tensor(PERMUTATIONS, device=x.device)
    index = table[code].view(-1, 1, 1, 3).expand(x.shape)
    return torch.gather(x, 3, index)


def to_float(x: torch.Tensor) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [0, 1], contiguous."""
    return x.permute(0, 3, 1, 2).contiguous().float().div_(255)


def finished(x: torch.Tensor, code: torch.Tensor, channels: torch.Tensor | None) -> torch.Tensor:
    """`to_float(permute_channels(dihedral(x, code), channels))`; None permutes nothing.

    Accelerators do that for the whole batch at once. A processor is ten times faster patch by
    patch: there each code is a view, and one copy into the result does everything.
    """
    if x.device.type != "cpu":
        turned = dihedral(x, code)
        return to_float(turned if channels is None else permute_channels(turned, channels))
    out = torch.empty((len(x), 3, *x.shape[1:3]))
    colours = [0] * len(x) if channels is None else channels.tolist()
    for n, (bits, order) in enumerate(zip(code.tolist(), colours, strict=True)):
        patch = x[n].permute(2, 0, 1)
        flipped = [axis for axis, bit in ((2, 1), (1, 2)) if bits & bit]
        patch = patch.flip(flipped) if flipped else patch
        patch = patch.transpose(1, 2) if bits & 4 else patch
        if order:
            for target, source in enumerate(PERMUTATIONS[order]):
                out[n, target] = patch[source]
        else:
            out[n] = patch
    return out.div_(255)


def mixup(
    lr: torch.Tensor, hr: torch.Tensor, uniform: torch.Tensor, probability: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend some patches, float NCHW, with their neighbour: share * own + (1 - share) * other's.

    Both patches of two neighbours are blended or neither, each with its own share in [0.5, 1), so
    that each stays the dominant one. `uniform` are drawn numbers in [0, 1), (N, 2); UserError
    where N, the number of patches on this device, is odd.
    """
    count = len(lr)
    if count % 2:
        raise UserError(f"data.mixup pairs patches: {count} a device is odd, change batch_size")
    partner = torch.arange(count, device=lr.device) ^ 1
    chosen = uniform[:, 0].view(-1, 2)[:, 0].repeat_interleave(2) < probability
    share = torch.where(chosen, 0.5 + uniform[:, 1] / 2, torch.ones_like(uniform[:, 1]))
    share = share.view(-1, 1, 1, 1)
    return torch.lerp(lr[partner], lr, share), torch.lerp(hr[partner], hr, share)


def cutblur(
    lr: torch.Tensor, hr: torch.Tensor, uniform: torch.Tensor, probability: float
) -> torch.Tensor:
    """Make degraded LR (N, 3, h, w) clean in a box, or outside of it.

    The network learns where to restore, and how much. CutBlur (Yoo et al., CVPR 2020,
    arXiv:2004.00448) pastes HR pixels into an LR image of HR size. Networks that take small LR
    images cannot see HR pixels, so the box is filled with the clean reduction of HR (N, 3, H, W),
    which needs LR that is degraded beyond bicubic.

    `uniform` are drawn numbers in [0, 1), (N, 6): apply, height, width, top, left, side.
    """
    height, width = lr.shape[-2:]
    clean = resize(hr, Fraction(width, hr.shape[-1])).clamp(0, 1)
    tall = (height * (0.2 + 0.5 * uniform[:, 1])).floor()
    wide = (width * (0.2 + 0.5 * uniform[:, 2])).floor()
    top = (uniform[:, 3] * (height - tall + 1)).floor()
    left = (uniform[:, 4] * (width - wide + 1)).floor()
    rows = torch.arange(height, device=lr.device).view(1, -1, 1)
    columns = torch.arange(width, device=lr.device).view(1, 1, -1)
    box = _within(rows, top, tall) & _within(columns, left, wide)
    box = box ^ (uniform[:, 5] < 0.5).view(-1, 1, 1)
    use = box & (uniform[:, 0] < probability).view(-1, 1, 1)
    return torch.where(use[:, None], clean, lr)


def _within(line: torch.Tensor, first: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    first, count = first.view(-1, 1, 1), count.view(-1, 1, 1)
    return (line >= first) & (line < first + count)


class Finishing:
    """From uint8 patches and their codes to `{"lr", "hr"}`, float RGB NCHW in [0, 1]."""

    def __init__(
        self,
        degradation: Degradation | None = None,
        mixup: Probability = 0.0,  # that two neighbouring patches are blended
        cutblur: Probability = 0.0,  # that a box of LR stays clean, or everything else does
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
