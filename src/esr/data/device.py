"""The whole set as uint8 on the accelerator (`data.store=gpu`): no workers, no transfers.

Patches are cut, flipped, rotated, recoloured and laid out as NCHW by one gather: the sampler's
numbers become a table of byte positions. DIV2K at x4 takes 7.4 GB, so most cards hold it.
"""

import numpy as np
import torch

from esr.data.augment import PERMUTATIONS, Batch
from esr.data.patches import PatchBatches
from esr.data.sampling import Draws, PatchSampler, Schedule
from esr.data.store import Store
from esr.errors import UserError


class _Plane:
    """All images of one resolution, end to end."""

    def __init__(self, images: list[np.ndarray], device: torch.device):
        counts = [image.size for image in images]
        self.bytes = torch.empty(sum(counts), dtype=torch.uint8, device=device)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        for start, count, image in zip(starts.tolist(), counts, images, strict=True):
            flat = torch.from_numpy(np.array(image).reshape(-1))
            self.bytes[start : start + count].copy_(flat)
        self.starts = torch.from_numpy(starts.astype(np.int64)).to(device)
        self.widths = torch.tensor([image.shape[1] for image in images], device=device)

    def gather(
        self, image: torch.Tensor, top: torch.Tensor, left: torch.Tensor, size: int, turn: "_Turn"
    ) -> torch.Tensor:
        """uint8 (N, 3, size, size); `top` and `left` in pixels of this resolution."""
        rows, columns = turn.positions(size)
        width = self.widths[image].view(-1, 1, 1)
        pixel = (top.view(-1, 1, 1) + rows) * width + left.view(-1, 1, 1) + columns
        byte = self.starts[image].view(-1, 1, 1) + pixel * 3
        return torch.take(self.bytes, byte[:, None] + turn.colours)


class _Turn:
    """The patches' elements of the dihedral group and permutations of colours."""

    def __init__(self, code: torch.Tensor, channels: torch.Tensor):
        bits = code.view(-1, 1, 1)
        self._mirror, self._flip, self._swap = (bits & 1) > 0, (bits & 2) > 0, (bits & 4) > 0
        table = torch.tensor(PERMUTATIONS, device=code.device)
        self.colours = table[channels].view(-1, 3, 1, 1)

    def positions(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Source rows and columns (N, size, size) of each output pixel: `augment.dihedral`."""
        line = torch.arange(size, device=self._swap.device)
        down, across = line.view(1, -1, 1), line.view(1, 1, -1)
        rows = torch.where(self._swap, across, down)
        columns = torch.where(self._swap, down, across)
        rows = torch.where(self._flip, size - 1 - rows, rows)
        return rows, torch.where(self._mirror, size - 1 - columns, columns)


class DeviceBatches(PatchBatches):
    """As `PatchBatches`, with the images, if they fit, and the batches on `device`."""

    def __init__(
        self,
        store: Store,
        sampler: PatchSampler,
        schedule: Schedule,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        flips: bool = True,
        colours: bool = False,
    ):
        super().__init__(store, sampler, schedule, rank, world, flips, colours)
        self.device = device
        pairs = [store.pair(index) for index in range(len(store.names))]
        try:
            self._lr = _Plane([lr for lr, _ in pairs], device)
            self._hr = _Plane([hr for _, hr in pairs], device)
        except torch.OutOfMemoryError as error:
            total = sum(lr.size + hr.size for lr, hr in pairs)
            raise UserError(
                f"the images take {total / 1e9:.1f} GB, more than {device} has free: type "
                "data.store=memmap"
            ) from error

    def cut(self, draws: Draws, side: int) -> Batch:
        """Float NCHW in [0, 1], augmented."""
        code, channels = draws.code * self.flips, draws.channels * self.colours
        drawn = [draws.image, draws.row, draws.column, code, channels, draws.seed]
        numbers = torch.from_numpy(np.stack(drawn))  # one transfer
        if self.device.type == "cuda":
            numbers = numbers.pin_memory()
        image, row, column, code, channels, seed = numbers.to(self.device, non_blocking=True)
        turn, scale = _Turn(code, channels), self.store.scale
        lr = self._lr.gather(image, row, column, side, turn)
        hr = self._hr.gather(image, row * scale, column * scale, side * scale, turn)
        return {"lr": lr.float().div_(255), "hr": hr.float().div_(255), "seed": seed}
