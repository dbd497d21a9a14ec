"""What a network's arguments are and may be, said once, in their types.

A constructor's signature is the schema of its yaml: name, type, default. What forty constructors
would have to repeat (meaning, unit, bounds) stands here in `Annotated`, for readers, for the check
of typed values and for the reference alike. A remark that concerns one network stands as a comment
beside the argument there.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

from annotated_types import Ge, Gt, MultipleOf
from torch import nn

Scale = Annotated[int, Ge(1), "side of the output in units of the input's"]
DataRange = Annotated[float, Gt(0), "value range that the weights expect: 1 or 255"]
Channels = Annotated[int, Ge(1), "channels"]
Even = Annotated[int, Ge(2), MultipleOf(2), "channels, half of which go another way"]
Depth = Annotated[int, Ge(1), "blocks in series"]
Heads = Annotated[int, Ge(1), "attention heads, each with an equal share of the channels"]
Expansion = Annotated[int, Ge(1), "hidden channels per channel"]
PerBlock = Channels | Sequence[Channels]
"""One number for all blocks, or one a block."""

ConvFactory = Annotated[
    Callable[..., nn.Module], "has the signature of nn.Conv2d and merges to one"
]
"""`nn.Conv2d` itself, or a re-parameterised block (`conv=ecb`)."""

Activation = Annotated[Callable[[], nn.Module], "makes an activation"]
"""A class such as `nn.SiLU`, or a partial with its arguments."""
