"""Prune to a measured time: "35 % faster on this machine".

FLOPs say little about time, so candidates are timed in turns with the original, and the search
runs over the share of FLOPs that gives the wanted share of time.
"""

from collections.abc import Callable

import torch

from esr.metrics.runtime import measure
from esr.surgery.pruning import rebuild
from esr.surgery.pruning.rebuild import Config

SHORT, LONG = 9, 31
"""Timed passes of a candidate, and of those that are close."""


def ratio(
    config: Config, original: Config, size: tuple[int, int], device: str, passes: int = LONG
) -> float:
    """Time of a network over that of another, measured in turns on one image (median of passes)."""
    nets = [rebuild.build(c).to(device) for c in (config, original)]
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    found = measure(nets[0], [image], device, reference=nets[1], passes=passes).ratio
    assert found is not None
    return found


def search(
    wanted: float,
    candidate: Callable[[float], Config | None],
    time: Callable[[Config, int], float],
) -> tuple[Config | None, float]:
    """The configuration whose time is closest to the share `wanted`, and its ratio.

    Args:
        wanted: share of the original's time.
        candidate: from a share of FLOPs to a configuration; None where there is none.
        time: from a configuration and a number of passes to its share of the time.

    Returns:
        None, with the best ratio that was reached, if none is fast enough.
    """
    low, high = 0.02, 1.0
    timed: dict[str, tuple[Config, float]] = {}
    for _ in range(8):
        share = (low + high) / 2
        config = candidate(share)
        if config is None:
            low = share
            continue
        if str(config) not in timed:
            timed[str(config)] = (config, time(config, SHORT))
        if timed[str(config)][1] > wanted:
            high = share
        else:
            low = share
    close = sorted(timed.values(), key=lambda pair: abs(pair[1] - wanted))[:3]
    again = [(config, time(config, LONG)) for config, _ in close]
    config, reached = min(again, key=lambda pair: abs(pair[1] - wanted))
    return (None if reached > 1.05 * wanted else config), reached
