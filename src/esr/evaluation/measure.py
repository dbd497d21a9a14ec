"""The evaluation: what the callback logs while training and what `evaluate.py` prints.

Both use these functions, so both give the same figures: fidelity on the validation images,
complexity by the challenge's counter, and runtime and memory of the form to deploy.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from esr.metrics import memory, runtime
from esr.metrics.complexity import Complexity, complexity
from esr.metrics.fidelity import SCORES, MeanScore
from esr.metrics.memory import Memory
from esr.metrics.runtime import Runtime
from esr.surgery.fuse import fusable, fuse

Batch = dict[str, Any]


class Batches(Protocol):
    """A loader of `{"lr", "hr", "name"}`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class ValidationData(Protocol):
    """What is asked of a data module: a loader for each named set, the scale, and what it is."""

    scale: int
    val_names: list[str]

    def val_dataloader(self) -> Sequence[Batches]:
        """Loaders in the order of `val_names`."""
        ...

    def describe(self) -> list[str]:
        """The sets, in lines for the user."""
        ...

    def checksum(self) -> str:
        """A fingerprint of all images' names and content."""
        ...


@dataclass(frozen=True)
class Image:
    """One scored image of a validation set: its SR (1, 3, H, W), not clamped, and its scores."""

    set: str
    name: str
    sr: Tensor
    scores: dict[str, float]


class Fidelity:
    """Mean scores of several validation sets, over all processes."""

    def __init__(
        self,
        names: Sequence[str],  # of the sets; the first is the primary one, whose keys have no name
        scale: int,  # the border that is ignored
        device: torch.device | str = "cpu",  # where the scores are summed
        alone: bool = False,  # this process sees all images and asks no other one
    ):
        self.names = list(names) or [""]
        self.scale = scale
        self.not_finite: list[str] = []
        self._means = [{key: MeanScore(alone).to(device) for key in SCORES} for _ in self.names]

    def update(
        self, sr: Tensor, batch: Batch, index: int = 0, keep: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score a batch (`hr` and, if images have them, `name`) of set `index`.

        `keep`, bool (N,), is False for an image that another process counts. Returns the scores of
        each image, (N,).
        """
        scores = {key: score(sr, batch["hr"], self.scale) for key, score in SCORES.items()}
        for key, value in scores.items():
            self._means[index][key].update(value, keep)
        for i in torch.nonzero(scores["psnr_rgb"].isnan()).flatten().tolist():
            self.not_finite.append(batch.get("name", [f"image {i}"] * len(sr))[i])
        return scores

    def compute(self) -> dict[str, float]:
        """Means by key: `val/psnr_rgb` of the first set and, if several, `val/SET/psnr_rgb`.

        A network whose output is not finite has no score: NaN, and a warning names the images.
        """
        if self.not_finite:
            warnings.warn(
                f"the network's output is not finite (NaN or infinite) in "
                f"{len(self.not_finite)} images, the first is {self.not_finite[0]}: no score",
                stacklevel=2,
            )
        values = [{key: mean.compute().item() for key, mean in m.items()} for m in self._means]
        found = {f"val/{key}": value for key, value in values[0].items()}
        if len(self.names) > 1:
            for name, scores in zip(self.names, values, strict=True):
                found |= {f"val/{name}/{key}": value for key, value in scores.items()}
        return found


@torch.no_grad()  # not inference mode: a network may keep a tensor and be trained on
def fidelity(
    net: nn.Module,  # takes and gives RGB (N, 3, H, W) in [0, 1]; is set to evaluation mode
    data: ValidationData,  # with its images prepared
    device: torch.device | str = "cpu",  # where the images go; the network is expected there
    note: Callable[[Image], None] | None = None,  # called with each image
) -> dict[str, float]:
    """Mean PSNR and SSIM of `net` on every validation set of `data`, by the keys of the log."""
    net.eval()
    found = Fidelity(data.val_names, data.scale, device, alone=True)
    with exact_arithmetic():
        for index, loader in enumerate(data.val_dataloader()):
            for batch in loader:
                batch = {**batch, "lr": batch["lr"].to(device), "hr": batch["hr"].to(device)}
                sr = net(batch["lr"])
                scores = found.update(sr, batch, index)
                if note is None:
                    continue
                for i, name in enumerate(batch["name"]):
                    values = {key: value[i].item() for key, value in scores.items()}
                    note(Image(data.val_names[index], name, sr[i : i + 1], values))
    return found.compute()


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Real float32: TF32, which GPUs use for convolutions, moves the third decimal of a PSNR."""
    convolution: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    flags = convolution.allow_tf32, matmul.allow_tf32
    try:
        convolution.allow_tf32 = matmul.allow_tf32 = False
        yield
    finally:
        convolution.allow_tf32, matmul.allow_tf32 = flags


def keys(names: Sequence[str]) -> list[str]:
    """The keys of everything that is measured of a deployed network; `names` of the sets."""
    sets = ["", *(f"{name}/" for name in names if len(names) > 1)]
    fidelities = [f"val/{prefix}{key}" for prefix in sets for key in SCORES]
    costs = ("params_m", "flops_g", "acts_m", "convs", "runtime_ms", "runtime_ratio", "memory_mib")
    return [*fidelities, *(f"eff/{cost}" for cost in costs)]


@dataclass(frozen=True)
class Efficiency:
    """What a network costs, each figure with its protocol; what was not measured is None."""

    complexity: Complexity
    runtime: Runtime | None = None
    memory: Memory | None = None
    reference: str | None = None

    def metrics(self) -> dict[str, float]:
        """The figures by the keys of the log; those that were not measured are absent."""
        found = {
            "eff/params_m": self.complexity.params / 1e6,
            "eff/flops_g": self.complexity.flops / 1e9,
            "eff/acts_m": self.complexity.acts / 1e6,
            "eff/convs": self.complexity.convs,
            "eff/runtime_ms": self.runtime and self.runtime.ms,
            "eff/runtime_ratio": self.runtime and self.runtime.ratio,
            "eff/memory_mib": self.memory and self.memory.peak,
        }
        return {key: value for key, value in found.items() if value is not None}

    def record(self) -> dict[str, Any]:
        """Everything as plain values, for a result file."""
        return dataclasses.asdict(self)


def efficiency(
    net: nn.Module,  # merged first (a copy) if it still has training-form blocks
    device: torch.device | str = "cpu",  # where `net` is
    size: tuple[int, int] = (256, 256),  # that is counted, and timed if there are no `inputs`
    counter: str = "ntire2022",  # see `esr.metrics.complexity`
    protocol: str = "stable",  # see `esr.metrics.runtime`
    inputs: Sequence[Tensor] | None = None,  # images (1, 3, H, W) to time; None: one of noise
    reference: tuple[str, nn.Module] | None = None,  # timed in turns, see `reference_network`
    seconds: float | None = 3.0,  # bound of the timing; 0 leaves runtime and memory out
    known: Complexity | None = None,  # from before, if the structure is the same
    runner: nn.Module | None = None,  # timed in place of `net`, such as itself in tiles
) -> Efficiency:
    """Complexity, runtime and peak memory of the deploy form of `net`.

    Raises:
        UserError: unknown counter or protocol, or the network cannot take the size.
    """
    if fusable(net):
        net = fuse(net)
    static = known or complexity(net, size, counter)
    if seconds == 0:
        return Efficiency(static)
    inputs = [noise(size)] if inputs is None else inputs
    name, other = reference or (None, None)
    runner = runner or net
    used = memory.measure(runner, inputs, device)
    timed = runtime.measure(runner, inputs, device, protocol, other, seconds)
    return Efficiency(static, timed, used, name)


def noise(size: tuple[int, int]) -> Tensor:
    """An image (1, 3, H, W) of uniform noise, always the same."""
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


def structure(net: nn.Module) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What complexity depends on: the names and shapes of the parameters."""
    return tuple((name, tuple(p.shape)) for name, p in net.named_parameters())
