"""Prune to a measured time: "35 % faster on this machine".

FLOPs say little about time, so candidates are timed in turns with the original, and the share of
FLOPs is corrected until the share of time is the wanted one. Other programs disturb every timing;
the median over several rounds, each a ratio of its own, is what lasts.
"""

import statistics
import time
from collections.abc import Callable

import torch

from esr.build import Config
from esr.metrics.hardware import keep_memory
from esr.metrics.runtime import measure
from esr.surgery.rebuild import build_network

ROUNDS, PASSES = 11, 2
SECONDS = 10.0
"""A network slow enough to need longer is timed in fewer rounds, at least three."""

CLOSE = 0.02
"""Relative distance from the wanted time at which the search is content."""


def time_ratio(
    config: Config,
    original: Config,
    size: tuple[int, int],
    device: str = "cpu",
    rounds: int = ROUNDS,
) -> float:
    """Time of a network over that of another, in turns on one image: the median of the rounds."""
    if torch.device(device).type == "cpu":
        keep_memory()
    nets = [build_network(c).to(device) for c in (config, original)]
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    found: list[float] = []
    started = time.perf_counter()
    while len(found) < rounds and (len(found) < 3 or time.perf_counter() - started < SECONDS):
        value = measure(nets[0], [image], device, reference=nets[1], passes=PASSES).ratio
        assert value is not None, "there is a reference"
        found.append(value)
    return statistics.median(found)


def search_runtime(
    wanted: float,  # share of the original's time
    candidate: Callable[[float], Config | None],  # of a share of FLOPs; None where there is none
    timed: Callable[[Config], float],  # its share of the time; measured again, it may differ
    tries: int = 6,  # measurements at most
) -> tuple[Config | None, float]:
    """The configuration whose time is closest to the share `wanted`, and its measured share.

    None, with the best share that was reached, if none is fast enough.
    """
    known: dict[str, tuple[Config, list[float]]] = {}
    share, reachable = wanted, 0.0
    for _ in range(tries):
        config = candidate(share)
        if config is None:
            reachable = share
            share = min(1.0, 1.3 * share)
            continue
        _, times = known.setdefault(str(config), (config, []))
        times.append(timed(config))
        now = statistics.fmean(times)
        distance = abs(now / wanted - 1)
        if len(times) > 1 and distance <= CLOSE:
            return config, now
        if distance > CLOSE:  # else the same once more, to be sure
            share = min(1.0, max(share * wanted / now, reachable * 1.01, 1e-3))
    means = [(config, statistics.fmean(times)) for config, times in known.values()]
    if not means:
        return None, 1.0
    config, reached = min(means, key=lambda pair: abs(pair[1] - wanted))
    return (None if reached > 1.05 * wanted else config), reached
