"""Distillation: a frozen teacher supervises the output or the features of the student.

Features are named as in the networks, "blocks.3". In a configuration `esr.zoo.open.teacher` makes
the teacher.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esr.errors import UserError
from esr.losses.arguments import Distance, Pairs, Precision, TeacherSource, Weight
from esr.losses.teacher import Features, Teacher, feature_shapes
from esr.losses.weighted import Loss

DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss}


class OutputDistillation(Loss):
    """Distance between the outputs of student and teacher; the target is not looked at."""

    taps: Sequence[str] = ()  # the teacher's modules whose outputs are read

    def __init__(
        self,
        teacher: TeacherSource,
        distance: Distance = "l1",
        precision: Precision = "32",
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        if distance not in DISTANCES:
            raise UserError(f"distance is one of {', '.join(DISTANCES)}, got {distance!r}")
        self.teacher = Teacher(teacher, precision)
        self._distance = DISTANCES[distance]

    def bind(self, student: nn.Module) -> None:
        """Make the teacher ready and compare the scales.

        Raises:
            UserError: the teacher has another scale than the student.
        """
        self.teacher.make(self.taps)
        scale, other = (getattr(net, "scale", None) for net in (student, self.teacher.net))
        if None not in (scale, other) and scale != other:  # where the networks state them
            raise UserError(
                f"the teacher ({type(self.teacher.net).__name__}) upscales by {other}, the "
                f"student ({type(student).__name__}) by {scale}: choose a teacher of scale {scale}"
            )

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        return self._distance(sr, self.teacher(lr)[0])


class FeatureDistillation(OutputDistillation):
    """Distance between features, averaged over pairs (FitNets; the challenge's usual form).

    Where the widths differ, a trainable 1x1 convolution of this loss maps the student's features
    onto the teacher's width; it is optimised with the network and not part of it.
    """

    adapted = True
    _features: Features  # the student's, from `bind` on

    def __init__(
        self,
        teacher: TeacherSource,
        pairs: Pairs,
        distance: Distance = "l1",
        precision: Precision = "32",
        weight: Weight = 1.0,
    ):
        super().__init__(teacher, distance, precision, weight)
        if not pairs:
            raise UserError("feature distillation needs pairs, such as {blocks.3: blocks.5}")
        self.pairs = dict(pairs)
        self.taps = list(self.pairs.values())
        self.adapters = nn.ModuleList()

    def bind(self, student: nn.Module) -> None:
        """Attach to both networks and make the adapters.

        Raises:
            UserError: a module does not exist, its output is not an image-like tensor, or the
                sizes of a pair differ.
        """
        super().bind(student)
        self._features = Features(student, self.pairs, training_only=True, role="student")
        ours = feature_shapes(student, self._features)
        theirs = feature_shapes(self.teacher.net, self.teacher.features)
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

    def features(self, lr: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The teacher's output and (adapted student, teacher) features of every pair."""
        sr, theirs = self.teacher(lr)
        if not (ours := self._features.take()):
            raise RuntimeError(
                "no features: the student must have run in training mode just before"
            )
        return sr, [
            (adapter(ours[mine].to(sr.dtype)), theirs[its])
            for adapter, (mine, its) in zip(self.adapters, self.pairs.items(), strict=True)
        ]

    def compare(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance of one pair of features."""
        return self._distance(a, b)

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        _, pairs = self.features(lr)
        return torch.stack([self.compare(a, b) for a, b in pairs]).mean()


class AffinityDistillation(FeatureDistillation):
    """Distance between spatial affinities (FAKD, He et al., 2020): which places look alike.

    The features' cosine similarity between every two places, so that widths need not agree.
    Features are averaged over a grid first: the affinity of all places grows with the fourth
    power of the side.
    """

    adapted = False

    def __init__(
        self,
        teacher: TeacherSource,
        pairs: Pairs,
        grid: int = 24,  # places per side, at most
        distance: Distance = "l1",
        precision: Precision = "32",
        weight: Weight = 1.0,
    ):
        super().__init__(teacher, pairs, distance, precision, weight)
        self.grid = grid

    def affinity(self, features: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, P, P), P the number of places."""
        height, width = (min(self.grid, side) for side in features.shape[-2:])
        places = F.normalize(F.adaptive_avg_pool2d(features, (height, width)).flatten(2), dim=1)
        return places.transpose(1, 2) @ places

    def compare(self, a: Tensor, b: Tensor) -> Tensor:
        return self._distance(self.affinity(a), self.affinity(b))


class MultiAnchorDistillation(FeatureDistillation):
    """The student is held at several depths at once, and at its output.

    DIPNet (NTIRE 2023) names the method; its formula could not be read, so this is our own: every
    anchor is a pair of modules with a weight, and its distance is divided by the standard
    deviation of the teacher's features, which makes depths comparable.
    """

    def __init__(
        self,
        teacher: TeacherSource,
        pairs: Pairs,  # one an anchor
        anchor_weights: Sequence[float] | None = None,  # one a pair; equal shares of 1 by default
        output_weight: Weight = 1.0,  # of the distance between the outputs
        distance: Distance = "l1",
        precision: Precision = "32",
        weight: Weight = 1.0,
    ):
        super().__init__(teacher, pairs, distance, precision, weight)
        self.anchor_weights = list(anchor_weights or [1 / len(self.pairs)] * len(self.pairs))
        if len(self.anchor_weights) != len(self.pairs):
            raise UserError(
                f"{len(self.pairs)} anchors need as many anchor_weights, got {self.anchor_weights}"
            )
        self.output_weight = output_weight

    def compare(self, a: Tensor, b: Tensor) -> Tensor:
        spread = b.std() + 1e-6
        return self._distance(a / spread, b / spread)

    def forward(self, sr: Tensor, hr: Tensor, lr: Tensor) -> Tensor:
        theirs, pairs = self.features(lr)
        total = self.output_weight * self._distance(sr, theirs)
        for weight, (a, b) in zip(self.anchor_weights, pairs, strict=True):
            total = total + weight * self.compare(a, b)
        return total
