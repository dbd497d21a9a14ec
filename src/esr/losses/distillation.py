"""Distillation: a frozen teacher supervises the output or the features of the student.

All terms take `teacher` (a network, or a function that makes it: in a configuration, see
`esr.zoo.open.load`) and `precision`. Features are named as in the networks, "blocks.3"; `pairs`
maps modules of the student to those of the teacher, which must have the same height and width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from esr.errors import UserError
from esr.losses.teacher import Features, Teacher, feature_shapes
from esr.losses.weighted import Loss

TeacherSource = nn.Module | Callable[[], nn.Module]
Precision = Literal["32", "bf16", "16"]
DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss}


class OutputDistillation(Loss):
    """Distance between the outputs of student and teacher.

    Args:
        teacher: a network of the student's scale, or a function that makes it.
        distance: "l1" or "l2".
        precision: of the teacher's arithmetic.
        weight: factor of this term in the sum.
    """

    needs_lr = True

    def __init__(
        self,
        teacher: TeacherSource,
        distance: Literal["l1", "l2"] = "l1",
        precision: Precision = "32",
        weight: float = 1.0,
    ):
        super().__init__(weight)
        # Given as a module it must not become a submodule: it would be trained and saved.
        self._source = _Held(teacher)
        self._precision: Precision = precision
        self._distance = _distance(distance)
        self._teacher: Teacher | None = None

    def bind(self, student: nn.Module) -> None:
        """Make the teacher ready and compare the scales.

        Raises:
            UserError: the teacher has another scale than the student.
        """
        self._ready(student, taps=())

    def _ready(self, student: nn.Module, taps: Sequence[str]) -> Teacher:
        teacher = Teacher(self._source.value, self._precision, taps)
        scale = getattr(student, "scale", None)
        if None not in (scale, teacher.scale) and scale != teacher.scale:
            raise UserError(
                f"the teacher ({type(teacher.net).__name__}) upscales by {teacher.scale}, the "
                f"student ({type(student).__name__}) by {scale}: choose a teacher of scale {scale}"
            )
        self._teacher = teacher
        return teacher

    def _ask(self, lr: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if self._teacher is None:
            raise RuntimeError("call bind(student) before the first step")
        return self._teacher(lr)

    def forward(self, sr: torch.Tensor, hr: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """Return the distance to the teacher's output; the target is not looked at."""
        return self._distance(sr, self._ask(lr)[0])


class FeatureDistillation(OutputDistillation):
    """Distance between features, averaged over pairs (FitNets; the challenge's usual form).

    Where the widths differ, a trainable 1x1 convolution of this loss maps the student's features
    onto the teacher's width; it is optimised with the network and not part of it.

    Args:
        teacher: a network of the student's scale, or a function that makes it.
        pairs: student's module -> teacher's module.
        distance: "l1" or "l2".
        precision: of the teacher's arithmetic.
        weight: factor of this term in the sum.
    """

    adapted = True

    def __init__(
        self,
        teacher: TeacherSource,
        pairs: Mapping[str, str],
        distance: Literal["l1", "l2"] = "l1",
        precision: Precision = "32",
        weight: float = 1.0,
    ):
        super().__init__(teacher, distance, precision, weight)
        if not pairs:
            raise UserError("feature distillation needs pairs, such as {blocks.3: blocks.5}")
        self.pairs = dict(pairs)
        self.adapters = nn.ModuleList()
        self._features: Features | None = None

    def bind(self, student: nn.Module) -> None:
        """Attach to both networks and make the adapters.

        Raises:
            UserError: a module does not exist, its output is not an image-like tensor, or the
                sizes of a pair differ.
        """
        teacher = self._ready(student, list(self.pairs.values()))
        self._features = Features(student, self.pairs, training_only=True, role="student")
        ours = feature_shapes(student, self._features)
        theirs = feature_shapes(teacher.net, teacher._features)
        self.adapters = nn.ModuleList()
        for mine, its in self.pairs.items():
            a, b = ours[mine], theirs[its]
            if len(a) != 3 or a[1:] != b[1:]:
                raise UserError(
                    f"features of {mine} (student, {tuple(a)}) and {its} (teacher, {tuple(b)}) "
                    "differ in height or width: pair modules of equal resolution"
                )
            needed = self.adapted and a[0] != b[0]
            self.adapters.append(nn.Conv2d(a[0], b[0], 1) if needed else nn.Identity())

    def features(
        self, lr: torch.Tensor
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Return the teacher's output and (adapted student, teacher) features of every pair."""
        sr, theirs = self._ask(lr)
        ours = self._features.take() if self._features else {}
        if not ours:
            raise RuntimeError(
                "no features: the student must have run in training mode just before"
            )
        dtype = sr.dtype
        return sr, [
            (adapter(ours[mine].to(dtype)), theirs[its])
            for adapter, (mine, its) in zip(self.adapters, self.pairs.items(), strict=True)
        ]

    def forward(self, sr: torch.Tensor, hr: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """Return the mean distance over pairs."""
        _, pairs = self.features(lr)
        return torch.stack([self._distance(a, b) for a, b in pairs]).mean()


class AffinityDistillation(FeatureDistillation):
    """Distance between spatial affinities (FAKD, He et al., 2020): which places look alike.

    The features' cosine similarity between every two places, so that widths need not agree.
    Features are averaged over a grid first: the affinity of all places grows with the fourth
    power of the side.

    Args:
        teacher: a network of the student's scale, or a function that makes it.
        pairs: student's module -> teacher's module.
        grid: places per side, at most.
        distance: "l1" or "l2".
        precision: of the teacher's arithmetic.
        weight: factor of this term in the sum.
    """

    adapted = False

    def __init__(
        self,
        teacher: TeacherSource,
        pairs: Mapping[str, str],
        grid: int = 24,
        distance: Literal["l1", "l2"] = "l1",
        precision: Precision = "32",
        weight: float = 1.0,
    ):
        super().__init__(teacher, pairs, distance, precision, weight)
        self.grid = grid

    def affinity(self, features: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, P, P), P the number of places."""
        height, width = (min(self.grid, side) for side in features.shape[-2:])
        places = F.normalize(F.adaptive_avg_pool2d(features, (height, width)).flatten(2), dim=1)
        return places.transpose(1, 2) @ places

    def forward(self, sr: torch.Tensor, hr: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """Return the mean distance over pairs."""
        _, pairs = self.features(lr)
        values = [self._distance(self.affinity(a), self.affinity(b)) for a, b in pairs]
        return torch.stack(values).mean()


class MultiAnchorDistillation(FeatureDistillation):
    """The student is held at several depths at once, and at its output.

    DIPNet (NTIRE 2023) names the method; its formula could not be read, so this is our own: every
    anchor is a pair of modules with a weight, and its distance is divided by the standard
    deviation of the teacher's features, which makes depths comparable.

    Args:
        teacher: a network of the student's scale, or a function that makes it.
        pairs: student's module -> teacher's module, one an anchor.
        anchor_weights: one a pair; equal when not given.
        output_weight: of the distance between the outputs.
        distance: "l1" or "l2".
        precision: of the teacher's arithmetic.
        weight: factor of this term in the sum.
    """

    def __init__(
        self,
        teacher: TeacherSource,
        pairs: Mapping[str, str],
        anchor_weights: Sequence[float] | None = None,
        output_weight: float = 1.0,
        distance: Literal["l1", "l2"] = "l1",
        precision: Precision = "32",
        weight: float = 1.0,
    ):
        super().__init__(teacher, pairs, distance, precision, weight)
        self.anchor_weights = list(anchor_weights or [1 / len(self.pairs)] * len(self.pairs))
        if len(self.anchor_weights) != len(self.pairs):
            raise UserError(
                f"{len(self.pairs)} anchors need as many anchor_weights, got {self.anchor_weights}"
            )
        self.output_weight = output_weight

    def forward(self, sr: torch.Tensor, hr: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum over anchors and output."""
        theirs, pairs = self.features(lr)
        total = self.output_weight * self._distance(sr, theirs)
        for weight, (a, b) in zip(self.anchor_weights, pairs, strict=True):
            spread = b.std() + 1e-6
            total = total + weight * self._distance(a / spread, b / spread)
        return total


class _Held:
    """Keeps a value out of `nn.Module`'s registry, and shared between copies."""

    def __init__(self, value: TeacherSource):
        self.value = value

    def __deepcopy__(self, memo: dict[int, object]) -> "_Held":
        return self


def _distance(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    if name not in DISTANCES:
        raise UserError(f"distance is one of {', '.join(DISTANCES)}, got {name!r}")
    return DISTANCES[name]
