"""From sample numbers to batches: the sampler draws, a store cuts, the device finishes."""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from esr.data.augment import Batch
from esr.data.sampling import Draws, PatchSampler, Schedule
from esr.data.store import Store
from esr.errors import UserError


class PatchBatches(Dataset):
    """Batch number b as this rank's part of the global batch, as uint8 with its codes.

    Each of the `world` ranks takes consecutive samples of the global batch. UserError when an image
    is smaller than the patch, or a batch does not divide by the ranks.
    """

    def __init__(
        self,
        store: Store,
        sampler: PatchSampler,
        schedule: Schedule,
        rank: int = 0,
        world: int = 1,
        flips: bool = True,  # and turns by 90 degrees, at random
        colours: bool = False,  # permuted at random
    ):
        self.store, self.sampler, self.schedule = store, sampler, schedule
        self.rank, self.world = rank, world
        self.flips, self.colours = flips, colours
        self.shift = 0  # samples beyond the schedule's count: TrainLoader.load_state_dict
        for size in schedule.batch_sizes:
            if size % world:
                raise UserError(
                    f"data.batch_size is global: {size} samples do not divide among {world} "
                    f"devices. Take {max(1, size // world) * world}."
                )
        patch = max(schedule.patch_sizes)
        index = int(store.sizes.min(axis=1).argmin())
        height, width = (store.sizes[index] * store.scale).tolist()
        if min(height, width) < patch:
            raise UserError(
                f"{store.names[index]} is {width}x{height} pixels (cut to multiples of the scale), "
                f"smaller than data.patch_size={patch}. Remove it or type "
                f"data.patch_size={min(height, width)}."
            )

    def __getitem__(self, number: int) -> Batch:
        """Keys: lr, hr (uint8 NHWC), code, seed and, if permuted, channels (int64)."""
        first, size, patch = self.schedule.batch(number)
        local = size // self.world
        side = patch // self.store.scale
        first += self.shift + self.rank * local
        return self.cut(self.sampler.draw(first, local, side), side)

    def cut(self, draws: Draws, side: int) -> Batch:
        """The drawn patches of LR side `side`."""
        lr, hr = self.store.patches(draws.image, draws.row, draws.column, side)
        batch = {
            "lr": lr,
            "hr": hr,
            "code": torch.from_numpy(draws.code * self.flips),
            "seed": torch.from_numpy(draws.seed.copy()),
        }
        if self.colours:
            batch["channels"] = torch.from_numpy(draws.channels)
        return batch


class TrainLoader:
    """Batches from where the run stands, as Lightning asks for them epoch by epoch.

    The stream of batches is endless: an epoch is only a count, so that workers go on fetching
    across its end. `position` says how many batches the run has consumed; where the stream stands
    elsewhere (a resumed run), it is begun anew at that batch.
    """

    def __init__(
        self,
        batches: PatchBatches,
        length: int,  # batches an epoch
        position: Callable[[], int],
        workers: int = 0,  # processes that load; 0: this one does
        pin: bool = False,  # batches, for the transfer to an accelerator
    ):
        self._batches, self._length, self._position = batches, length, position
        self._workers, self._pin = workers, pin
        self._next = -1
        self._stream: Iterator[Batch] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        start = self._position()
        if self._stream is None or start != self._next:
            loader = DataLoader(
                self._batches,
                batch_size=None,
                sampler=itertools.count(start),
                num_workers=self._workers,
                pin_memory=self._pin,
                worker_init_fn=_one_thread if self._workers else None,
            )
            self._stream, self._next = iter(loader), start
        for _ in range(self._length):
            batch = next(self._stream)
            self._next += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where the run stands, in batches and in samples; Lightning puts it into checkpoints."""
        batches = self._position()
        samples = self._batches.schedule.batch(batches)[0] + self._batches.shift
        return {"batches": batches, "samples": samples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the next sample even if the batch size is another one now."""
        self._batches.shift = state["samples"] - self._batches.schedule.batch(state["batches"])[0]
        self._stream = None

    def close(self) -> None:
        """End the workers; the next iteration begins new ones."""
        self._stream = None


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
