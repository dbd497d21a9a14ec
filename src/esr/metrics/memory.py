"""Peak memory of a forward pass on CUDA, as torch's allocator counts it.

The challenge reads `max_memory_allocated` after the images: the weights, the input and whatever
lives at the worst moment. Other tensors of the process (an optimiser's state, another network)
are subtracted, so that the figure is the network's own whatever else is loaded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esr.metrics.untouched import untouched

MIB = 2**20
CHUNK = 64 * MIB


@dataclass(frozen=True)
class Memory:
    """MiB: `peak` with the network's weights, as the challenge counts, and `above` without them."""

    peak: float
    above: float
    sizes: list[tuple[int, int]]


def measure(net: nn.Module, images: Sequence[Tensor], device: torch.device | str) -> Memory | None:
    """Peak memory over `images` (1, 3, H, W) one by one; None where it cannot be read (no CUDA).

    The statistics of others are left as they were: a peak that torch had recorded before is
    there again afterwards.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return None
    weights = sum(tensor.nbytes for tensor in [*net.parameters(), *net.buffers()])
    with _peak_kept(device), untouched(net):
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with torch.inference_mode(), torch.autocast("cuda", enabled=False):
            for image in images:
                net(image.to(device))
        torch.cuda.synchronize(device)
        above = torch.cuda.max_memory_allocated(device) - before
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    return Memory(peak=(above + weights) / MIB, above=above / MIB, sizes=sizes)


@contextmanager
def _peak_kept(device: torch.device) -> Iterator[None]:
    """Reach the earlier peak again at the end; torch has no call that sets it.

    Only memory that the allocator holds anyway is touched: no further memory is asked of the GPU.
    """
    earlier = torch.cuda.max_memory_allocated(device)
    try:
        yield
    finally:
        held: list[Tensor] = []
        while (missing := earlier - torch.cuda.memory_allocated(device)) > 0:
            size = min(CHUNK, missing)
            free = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            if torch.cuda.max_memory_allocated(device) >= earlier or free < size:
                break
            held.append(torch.empty(size, dtype=torch.uint8, device=device))
        del held
