"""Augmentations that are exact and run on the device, by codes that the sampler drew.

Patches are uint8 or float, (N, H, W, C) with square H = W.
"""

import torch

PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def dihedral(x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Apply to each patch its element of the dihedral group.

    Bit 0 of the code mirrors left to right, bit 1 top to bottom, bit 2 then transposes: together
    the four rotations by 90 degrees and their mirrored versions.

    Args:
        x: (N, S, S, C).
        code: (N,) integers 0..7.
    """
    bits = code.view(-1, 1, 1, 1)
    x = torch.where((bits & 1).bool(), x.flip(2), x)
    x = torch.where((bits & 2).bool(), x.flip(1), x)
    return torch.where((bits & 4).bool(), x.transpose(1, 2), x)


def permute_channels(x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Apply to each patch its permutation of the three colours.

    Args:
        x: (N, H, W, 3).
        code: (N,) integers 0..5, rows of `PERMUTATIONS`.
    """
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
