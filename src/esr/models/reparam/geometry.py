"""The arguments that a re-parameterised block shares with `nn.Conv2d`, checked once."""

from dataclasses import dataclass

from esr.errors import UserError

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """What the merged convolution looks like; sizes are (rows, columns)."""

    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    bias: bool

    @property
    def keeps_shape(self) -> bool:
        """Whether output and input have one shape, so that an identity branch is possible."""
        return self.in_channels == self.out_channels and self.stride == (1, 1)


def geometry(
    block: str,
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    stride: int | Pair,
    padding: int | Pair,
    dilation: int | Pair,
    groups: int,
    bias: bool,
    *,
    kernels: tuple[int, ...] = (),
    strided: bool = True,
    dilated: bool = True,
    bias_free: bool = True,
) -> Geometry:
    """Check the arguments of `nn.Conv2d` for a block.

    Args:
        block: the block's name in messages.
        kernels: the kernel sizes it exists for; empty for every odd one.
        strided: whether it can have a stride.
        dilated: whether it can have a dilation.
        bias_free: whether it can merge into a convolution without bias.

    Raises:
        UserError: the block cannot merge exactly into such a convolution.
    """
    size = _pair(kernel_size)
    if size[0] % 2 == 0 or size[1] % 2 == 0:
        raise UserError(f"{block} needs an odd kernel size, got {kernel_size}")
    if kernels and (size[0] != size[1] or size[0] not in kernels):
        allowed = " or ".join(f"{k}x{k}" for k in kernels)
        raise UserError(f"{block} exists for {allowed} kernels, got {size[0]}x{size[1]}")
    if not strided and _pair(stride) != (1, 1):
        raise UserError(f"{block} keeps an identity and needs stride 1, got {stride}")
    if not dilated and _pair(dilation) != (1, 1):
        raise UserError(f"{block} has no dilated form, got dilation={dilation}")
    if not bias_free and not bias:
        raise UserError(
            f"{block} merges a BatchNorm, which yields a bias: bias=False is impossible"
        )
    if isinstance(padding, str):
        raise UserError(f"{block} takes padding as a number, got '{padding}'")
    wide = _pair(dilation)
    same = (wide[0] * (size[0] - 1) // 2, wide[1] * (size[1] - 1) // 2)
    if _pair(padding) != same:
        raise UserError(
            f"{block} aligns its branches by zero padding of {same} for a {size[0]}x{size[1]} "
            f"kernel with dilation {dilation}, got padding={padding}"
        )
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise UserError(f"{block}: {name}={channels} is not divisible by groups={groups}")
    return Geometry(in_channels, out_channels, size, _pair(stride), same, wide, groups, bias)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
