"""Tiled inference: an image of any size through a network, in memory that one tile needs.

The image stays on the CPU; only tiles travel to the device. Two rules of putting the outputs
together: `crop` takes each output pixel from one tile alone and cuts in the middle of the overlap,
which gives the whole-image result wherever half the overlap reaches as far as a pixel's receptive
field; `average` is the rule of KAIR's `test_tile`, by which the NTIRE 2022 challenge ran its
largest entry. Networks that look at the whole image (the pooled attention of ESA or CCA) see
another image in every tile: no overlap makes their tiled result equal.
"""

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from esr.errors import UserError

log = logging.getLogger(__name__)

SMALLEST = 32
"""Tiles do not shrink below this side when memory runs out; the error is passed on instead."""

_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",  # what oneDNN says when its buffers cannot be allocated
)


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    `crop` cuts in the middle of the overlap; `average` averages there and makes tiles square,
    min(size, H, W), as the challenge's script did.

    Raises:
        UserError: a size below 1, or an overlap that is negative or not smaller than the size.
    """

    size: int  # side of a tile in LR pixels; a smaller image is one tile
    overlap: int = 32  # LR pixels that neighbouring tiles share at least
    blend: Literal["crop", "average"] = "crop"

    def __str__(self) -> str:
        return f"{self.size}, overlap {self.overlap}, {self.blend}"

    def __post_init__(self):
        if self.size < 1 or not 0 <= self.overlap < self.size:
            raise UserError(
                f"tile={self.size} with an overlap of {self.overlap}: the overlap must be at least "
                "0 and smaller than the tile; type for example tile=256 tile_overlap=32"
            )


def starts(length: int, size: int, overlap: int) -> list[int]:
    """First pixel of each tile along one side; the last tile ends at the border."""
    return [*range(0, length - size, size - overlap), length - size]


def tiled(
    net: nn.Module,
    image: torch.Tensor,
    tiling: Tiling,
    scale: int,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Super-resolve `image` (N, 3, H, W) tile by tile; the output lies on the image's device."""
    height, width = image.shape[-2:]
    size_y, size_x = min(tiling.size, height), min(tiling.size, width)
    average = tiling.blend == "average"
    if average:
        size_y = size_x = min(size_y, size_x)
    overlap_y, overlap_x = min(tiling.overlap, size_y - 1), min(tiling.overlap, size_x - 1)
    rows, columns = starts(height, size_y, overlap_y), starts(width, size_x, overlap_x)

    out = image.new_zeros((image.shape[0], image.shape[1], height * scale, width * scale))
    weight = image.new_zeros((1, 1, height * scale, width * scale)) if average else None
    for top, (first_y, last_y) in zip(rows, _shares(rows, size_y, height), strict=True):
        for left, (first_x, last_x) in zip(columns, _shares(columns, size_x, width), strict=True):
            tile = image[..., top : top + size_y, left : left + size_x]
            sr = net(tile.to(device)).to(image.device)
            if weight is not None:
                area = _area(top, top + size_y, left, left + size_x, scale)
                out[area] += sr
                weight[area] += 1
            else:
                inner = _area(first_y - top, last_y - top, first_x - left, last_x - left, scale)
                out[_area(first_y, last_y, first_x, last_x, scale)] = sr[inner]
    return out if weight is None else out / weight


def published_tiling(tile: Mapping[str, int] | None) -> Tiling | None:
    """The tiling of an entry, whose file says `tile: {size: ..., overlap: ...}`."""
    return Tiling(int(tile["size"]), int(tile["overlap"]), "average") if tile else None


class Upscaler(nn.Module):
    """A network that takes images on the CPU and gives images on the CPU, in tiles where needed.

    When the device's memory runs out, the image is tried again in tiles, halved until they fit;
    the size that fitted is kept for the images that follow.

    Raises:
        UserError: tiles smaller than the network's `min_size`.
    """

    def __init__(
        self,
        net: nn.Module,  # is moved to `device` and set to eval mode
        scale: int,
        device: torch.device | str = "cpu",
        tiling: Tiling | None = None,  # None takes images whole as long as memory lasts
    ):
        super().__init__()
        self.least = int(getattr(net, "min_size", 1))
        if tiling is not None and tiling.size < self.least:
            kind = type(net).__name__
            raise UserError(
                f"tile={tiling.size}: {kind} needs tiles of at least {self.least} pixels"
            )
        self.net = net.to(device).eval()
        self.scale = scale
        self.device = torch.device(device)
        self.tiling = tiling

    @torch.inference_mode()
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Super-resolve (N, 3, H, W) in [0, 1]; the output lies on the image's device.

        Raises:
            UserError: memory runs out even with small tiles, or the network refuses the image.
        """
        while True:
            try:
                return self._attempt(image)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                smaller = self._smaller(image)
                height, width = image.shape[-2:]
                what = f"{width}x{height} does not fit into the memory of {self.device}"
                if smaller is None:
                    raise UserError(f"{what}, not even in small tiles") from error
            # Outside the handler: its traceback would keep the failed attempt's tensors alive.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning("%s; going on with tile=%d", what, smaller.size)
            self.tiling = smaller

    def _attempt(self, image: torch.Tensor) -> torch.Tensor:
        if self.tiling is None:
            return self.net(image.to(self.device)).to(image.device)
        return tiled(self.net, image, self.tiling, self.scale, self.device)

    def _smaller(self, image: torch.Tensor) -> Tiling | None:
        """The next tiling to try, or None when tiles have become too small to be of use."""
        side = max(image.shape[-2:])
        limit, overlap, blend = side, 32, "crop"
        if self.tiling is not None:
            limit, overlap = min(side, self.tiling.size), self.tiling.overlap
            blend = self.tiling.blend
        size = 1 << ((limit - 1).bit_length() - 1) if limit > 1 else 0
        if size < max(SMALLEST, self.least):
            return None
        return Tiling(size, min(overlap, size // 2), blend)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, of a GPU or of the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _SIGNS)


def _shares(begins: list[int], size: int, length: int) -> list[tuple[int, int]]:
    """The part of the side that each tile answers for: cut in the middle of each overlap."""
    cuts = [(a + size + b) // 2 for a, b in itertools.pairwise(begins)]
    return list(zip([0, *cuts], [*cuts, length], strict=True))


def _area(top: int, bottom: int, left: int, right: int, scale: int) -> tuple:
    return ..., slice(top * scale, bottom * scale), slice(left * scale, right * scale)
