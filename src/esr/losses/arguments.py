"""What the terms' arguments are and may be, said once, in their types."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from annotated_types import Ge
from torch import nn

Weight = Annotated[float, Ge(0), "factor of this term in the sum"]

TeacherSource = Annotated[
    nn.Module | Callable[[], nn.Module],
    "a network of the student's scale, or a function that makes it",
]
Precision = Annotated[Literal["32", "bf16", "16"], "of the teacher's own arithmetic"]
Distance = Annotated[Literal["l1", "l2"], "between student and teacher"]
Pairs = Annotated[Mapping[str, str], "student's module -> teacher's module, of equal resolution"]
