"""What a re-parameterised block shares with the plain convolution that it merges into."""

from dataclasses import dataclass
from typing import TypedDict

Pair = tuple[int, int]  # (rows, columns)
Size = int | Pair


class ConvOptions(TypedDict, total=False):
    """The arguments of `nn.Conv2d` that a block hands on."""

    in_channels: int
    out_channels: int
    kernel_size: Size  # odd
    stride: Size
    padding: Size  # such that a stride of 1 keeps the size
    dilation: Size
    groups: int
    bias: bool


class BlockOptions(ConvOptions, total=False):
    """Of a block without BatchNorm, which may also be trained through its merged kernel."""

    collapsed: bool  # see `Block`; False unless given


@dataclass(frozen=True)
class Geometry:
    """The merged convolution: `nn.Conv2d(*astuple(shape))`, so the fields have that order."""

    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = True

    @property
    def keeps_shape(self) -> bool:
        """Whether output and input have one shape, so that an identity branch is possible."""
        return self.in_channels == self.out_channels and self.stride == (1, 1)

    def same_padding(self, size: Pair) -> Pair:
        """Padding with which a kernel of this size keeps the input's size at stride 1."""
        (rows, cols), (down, right) = size, self.dilation
        return down * (rows - 1) // 2, right * (cols - 1) // 2


def pair(value: Size) -> Pair:
    """(rows, columns) of what `nn.Conv2d` takes for both."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
