"""How long a forward pass takes, by a named protocol, beside a reference network.

Milliseconds do not travel between machines; the ratio to a reference measured in the same
process, in turns, does. So both are in every `Runtime`.

`ntire2022` is the challenge's procedure as its script has it: one CUDA event pair around each
image, batch 1, `cudnn.benchmark` off, no warm-up, gradients off by `requires_grad` only, the mean
over all images. Its first image pays for loading the libraries, so the ratio leaves that one out.
`stable` is one to stand behind: warm-up, inference mode, passes over the images until a limit, the
median over the passes and the spread between them. A CPU is timed by the wall clock, and says so.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from esr.errors import UserError
from esr.metrics.hardware import sensors
from esr.metrics.untouched import untouched

Times = list[list[float]]
"""Milliseconds of one pass, by image and network."""

PROTOCOLS = ("ntire2022", "stable")


@dataclass(frozen=True)
class Runtime:
    """Milliseconds per image and how they were taken; what was not measured is None.

    `ms` is the mean (`ntire2022`) or the median over passes (`stable`) of the time per image,
    `spread_ms` the distance between the quartiles over the passes, `ratio` the network's time over
    the reference's. `warmed_up` tells whether earlier passes were left out; `before` and `after`
    are clocks and temperature, where they can be read.
    """

    ms: float
    spread_ms: float | None
    passes: int
    reference_ms: float | None
    ratio: float | None
    protocol: str
    clock: str
    device: str
    dtype: str
    sizes: list[tuple[int, int]]
    warmed_up: bool = False
    threads: int | None = None
    tf32: bool | None = None
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)


def measure(
    net: nn.Module,  # on `device` already, in the form to deploy
    images: Sequence[Tensor],  # RGB (1, 3, H, W), on any device; a pass runs each of them once
    device: torch.device | str,
    protocol: str = "stable",
    reference: nn.Module | None = None,  # measured in turns with `net`, image by image
    seconds: float | None = None,  # bound of `stable`, warm-up included
    passes: int = 20,  # most passes of `stable`; `ntire2022` makes one
) -> Runtime:
    """Time `net` in evaluation mode; global settings and the network are left as they were.

    `stable` starts no pass that would end after `seconds`. When warming up alone takes half of
    them, that is the measurement.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol '{protocol}' is unknown; there are: {', '.join(PROTOCOLS)}")
    if not images:
        raise UserError("a runtime needs at least one image")
    device = torch.device(device)
    nets = [net] if reference is None else [net, reference]
    timer = _cuda_ms if device.type == "cuda" else _wall_ms

    def one_pass() -> Times:
        placed = (image.to(device) for image in images)  # one at a time, to spare memory
        return [[timer(net, image) for net in nets] for image in placed]

    before = sensors(device)
    with untouched(*nets), _prepared(nets, inference=protocol == "stable"):
        if protocol == "stable":
            times, warmed_up = _stable(one_pass, seconds, passes)
        else:
            times, warmed_up = [one_pass()], False
    own = [statistics.fmean(t[0] for t in one) for one in times]
    others, ratio = None, None
    if reference is not None:
        others = [statistics.fmean(t[1] for t in one) for one in times]
        if protocol == "stable":
            ratio = statistics.median(own) / statistics.median(others)
        else:
            settled = times[0][1:] or times[0]
            ratio = sum(t[0] for t in settled) / sum(t[1] for t in settled)
    quartiles = statistics.quantiles(own, n=4, method="inclusive") if len(own) > 1 else None
    return Runtime(
        ms=statistics.median(own),
        spread_ms=None if quartiles is None else quartiles[2] - quartiles[0],
        passes=len(own),
        reference_ms=None if others is None else statistics.median(others),
        ratio=ratio,
        protocol=protocol,
        clock="CUDA events" if device.type == "cuda" else "wall clock",
        device=device.type,
        dtype=str(images[0].dtype).removeprefix("torch."),
        sizes=[(image.shape[-2], image.shape[-1]) for image in images],
        warmed_up=warmed_up,
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        tf32=torch.backends.cudnn.allow_tf32 if device.type == "cuda" else None,
        before=before,
        after=sensors(device),
    )


def _stable(
    one_pass: Callable[[], Times], seconds: float | None, passes: int
) -> tuple[list[Times], bool]:
    """Passes and whether they were preceded by others that do not count."""
    started = time.perf_counter()
    allowed = float("inf") if seconds is None else seconds
    first = one_pass()  # loads kernels and brings the clocks up
    longest = time.perf_counter() - started
    if 2 * longest > allowed:
        return [first], False
    done: list[Times] = []
    while len(done) < passes:
        start = time.perf_counter()
        if start - started + longest > allowed and done:
            break
        done.append(one_pass())
        longest = max(longest, time.perf_counter() - start)
    return done, True


def _cuda_ms(net: nn.Module, image: Tensor) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(image.device):
        start.record()
        net(image)
        end.record()
        torch.cuda.synchronize()
    return start.elapsed_time(end)


def _wall_ms(net: nn.Module, image: Tensor) -> float:
    start = time.perf_counter()
    net(image)
    if image.device.type == "mps":
        torch.mps.synchronize()
    return (time.perf_counter() - start) * 1000


@contextmanager
def _prepared(nets: list[nn.Module], inference: bool) -> Iterator[None]:
    """Evaluation mode, no gradients, no autocast, no cuDNN search: settings and flags go back."""
    benchmark = torch.backends.cudnn.benchmark
    flags = [(p, p.requires_grad) for net in nets for p in net.parameters()]
    torch.backends.cudnn.benchmark = False
    try:
        for net in nets:
            net.eval()
        for parameter, _ in flags:
            if not parameter.is_inference():
                parameter.requires_grad_(False)
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(not inference),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        for parameter, flag in flags:
            if parameter.requires_grad != flag:
                parameter.requires_grad_(flag)
