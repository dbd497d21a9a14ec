"""The data of a run as Lightning asks for it; everything below it knows nothing of Lightning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
import torch
from annotated_types import Ge

from esr.data.augment import Finishing
from esr.data.degradation import Degradation, Probability
from esr.data.device import DeviceBatches
from esr.data.images import MAX_PIXELS
from esr.data.open import Kind, default_cache, open_store
from esr.data.patches import PatchBatches, TrainLoader
from esr.data.sampling import PatchSampler, Schedule, Sizes, probabilities
from esr.data.sets import HeldOut, ImageSet
from esr.data.shards import ShardBatches, Shards
from esr.data.store import Store, fingerprint
from esr.data.validation import Sets, WholeImages, with_held_out
from esr.errors import UserError
from esr.models.arguments import Scale


class SRData(pl.LightningDataModule):
    """Patches to train on and whole images to validate with, as pairs of LR and HR.

    After the transfer to the device a training batch is `{"lr", "hr"}`, float RGB (N, 3, H, W) in
    [0, 1]; a validation batch holds one image and its name: `{"lr", "hr", "name"}`.
    """

    def __init__(
        self,
        scale: Scale,
        train: Sets | Shards = None,  # shards are streamed; None: validation only
        val: Sets = None,  # None, or a folder without `hr`: a tenth of the training images
        store: Kind = "memmap",  # of decoded images: memmap is a packed file, files decodes anew
        cache: str | None = None,  # folder of packed stores; None: $ESR_CACHE or ~/.cache/esr
        full_check: bool = False,  # compare all of a packed store with its source, not four images
        patch_size: Sizes = 256,  # side in HR pixels, or sizes by optimiser step
        batch_size: Sizes = 64,  # patches over all devices together, or sizes by optimiser step
        samples_per_epoch: Annotated[int, Ge(1)] = 64000,  # an epoch is this count, nothing else
        num_workers: Annotated[int, Ge(0)] = 0,  # processes that cut patches; 0: the training's
        seed: int = 0,  # sample n of the run is a function of (seed, n)
        sampling: Literal["area", "image"] = "area",  # area: every pixel is equally likely
        flips: bool = True,  # flip and rotate by 90 degrees at random
        colours: bool = False,  # permute the colours at random
        mixup: Probability = 0.0,  # that two patches are blended
        cutblur: Probability = 0.0,  # that a part of LR stays clean; needs a degradation
        degradation: Degradation | None = None,  # makes LR worse than bicubic
        max_pixels: Annotated[int, Ge(1)] = MAX_PIXELS,  # larger images are refused
    ):
        super().__init__()
        if sampling not in ("area", "image"):
            raise UserError(f"unknown data.sampling={sampling}: choose area or image")
        self.scale = scale
        self.shards = train if isinstance(train, Shards) else None
        sets = None if isinstance(train, Shards) else train
        self.train_sets, self.val_sets = with_held_out(sets, val)
        self.val_names = list(self.val_sets)
        self.store: Kind = store
        self.cache = Path(cache).expanduser() if cache is not None else default_cache()
        self.full_check = full_check
        self.patch_size, self.batch_size = patch_size, batch_size
        self.samples_per_epoch = samples_per_epoch
        self.num_workers, self.seed = num_workers, seed
        self.sampling: Literal["area", "image"] = sampling
        self.flips, self.colours = flips, colours
        self.max_pixels = max_pixels
        # Refuses wrong sizes before anything is read.
        self.batch_sizes = Schedule(batch_size, patch_size, scale).batch_sizes
        self._finish = Finishing(degradation, mixup, cutblur)
        self._train: Store | None = None
        self._members: list[int] = []  # images of each training set
        self._val: dict[str, Store] = {}
        self._loader: TrainLoader | None = None

    def prepare_data(self) -> None:
        """Download and pack what is absent; one process a machine does it, the others wait."""
        for images in (*self.train_sets.values(), *self.val_sets.values()):
            images.prepare(self.scale)
        if self.store in ("memmap", "gpu") and self._train is None:
            self._open(training=True)

    def prepare_validation(self) -> None:
        """`prepare_data` and `setup` for scoring alone: nothing to train on is needed."""
        for images in self.val_sets.values():
            images.prepare(self.scale)
        self.setup("validate")

    def whole_images(self) -> None:
        """From now on, give this process all validation images, not its share of a run's."""
        self.trainer = None

    def setup(self, stage: str | None = None) -> None:
        """Check every image and open the stores; whatever is wrong is said here, by file."""
        training = stage in (None, "fit")
        if not self._val or (training and self.train_sets and self._train is None):
            self._train, self._val = self._open(training)
        if self._train is not None:
            self._members = [len(images.pairs(self.scale)) for images in self.train_sets.values()]
        if self._train is not None or (self.shards is not None and training):
            self._batches()

    def train_dataloader(self) -> TrainLoader:
        """Endless deterministic patches from the run's position on."""
        rank, world = self._share()
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        batches = self._batches(rank, world, accumulate, device)
        length = max(1, self.samples_per_epoch // self.batch_sizes[0])
        on_device = isinstance(batches, DeviceBatches)
        workers = 0 if on_device else self.num_workers
        pin = device.type == "cuda" and not on_device
        self._loader = TrainLoader(batches, length, self._position, workers, pin)
        return self._loader

    def teardown(self, stage: str) -> None:
        """End the processes that cut patches; Lightning would keep them till the program ends."""
        if self._loader is not None:
            self._loader.close()

    def val_dataloader(self) -> list[WholeImages]:
        """One loader of whole images for each validation set, in the order of `val_names`.

        Every rank sees images of its own, so one may have one more than another. A set with fewer
        images than ranks goes to all of them whole: a rank without any would skip the validation
        that the others wait in, and the mean is the same.
        """
        rank, world = self._share()
        loaders = []
        for store in self._val.values():
            shared = world if len(store.names) >= world else 1
            loaders.append(WholeImages(store, rank % shared, shared))
        return loaders

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment training patches on the device."""
        if "seed" not in batch:
            return batch
        batch = self._finish(batch)
        return self.trainer.precision_plugin.convert_input(batch) if self.trainer else batch

    def describe(self) -> list[str]:
        """What the run trains and validates on, in lines for the user."""
        lines = []
        if self.shards is not None:
            index = self.shards.index(self.scale)
            images = sum(len(shard["names"]) for shard in index)
            lines.append(f"training images    {images} in {len(index)} shards, {self.shards.url}")
        if self._train is not None:
            pixels = int(self._train.sizes.prod(axis=1).sum()) * self.scale**2
            lines.append(
                f"training images    {len(self._train.names)} ({', '.join(self.train_sets)}), "
                f"{pixels / 1e6:.1f} megapixels, store={self.store}"
            )
            lines.append(
                f"patches            {_text(self.patch_size)} HR pixels, x{self.scale}, "
                f"{_text(self.batch_size)} a batch"
            )
        for name, store in self._val.items():
            held = isinstance(self.val_sets[name], HeldOut)
            where = f"{name}, held out of the training images" if held else name
            lines.append(f"validation images  {len(store.names)} ({where})")
        notes = {getattr(images, "note", None) for images in self.train_sets.values()}
        return lines + [f"note               {note}" for note in sorted(filter(None, notes))]

    def checksum(self) -> str:
        """A fingerprint of all images' names and content."""
        stores = {f"val/{name}": store for name, store in self._val.items()}
        if self._train is not None:
            stores["train"] = self._train
        sums: dict[str, object] = {name: store.checksum() for name, store in stores.items()}
        if self.shards is not None:
            sums["shards"] = self.shards.index(self.scale)
        return fingerprint(list(sums), list(sums.values()))

    def _share(self) -> tuple[int, int]:
        """This process's rank, and the number of processes that share the data."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _open(self, training: bool) -> tuple[Store | None, dict[str, Store]]:
        """The stores of the training sets, joined into one, and of each validation set."""

        def opened(sets: Mapping[str, ImageSet], role: str) -> Store:
            return open_store(
                sets, role, self.scale, self.store, self.cache, self.max_pixels, self.full_check
            )

        train = opened(self.train_sets, "train") if training and self.train_sets else None
        return train, {name: opened({name: s}, "val") for name, s in self.val_sets.items()}

    def _batches(
        self,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        device: torch.device | None = None,
    ) -> PatchBatches:
        """The training batches of a rank; without a device they are checked, and nothing moves."""
        schedule = Schedule(self.batch_size, self.patch_size, self.scale, accumulate)
        if self.shards is not None:
            return ShardBatches(
                self.shards, schedule, self.scale, self.seed, self.sampling, rank, world,
                self.flips, self.colours,
            )  # fmt: skip
        store = self._train
        if store is None:
            raise UserError("this data has no training set: choose data=sample, folder or div2k")
        weights = [images.weight for images in self.train_sets.values()]
        chances = probabilities(store.sizes, self._members, weights, self.sampling)
        sampler = PatchSampler(store.sizes, chances, self.seed)
        shared = (rank, world, self.flips, self.colours)
        if self.store == "gpu" and device is not None:
            return DeviceBatches(store, sampler, schedule, device, *shared)
        return PatchBatches(store, sampler, schedule, *shared)

    def _position(self) -> int:
        """Batches that this run has trained on. Counted by the trainer, so it survives a resume."""
        if self.trainer is None:
            return 0
        # "Processed" counts whole training steps: a step that an interrupt broke off is repeated.
        done = getattr(self.trainer.fit_loop.epoch_loop.batch_progress.total, "processed", 0)
        repeat = getattr(self.trainer, "overfit_batches", 0)  # a count, or a share of an epoch
        if not repeat:
            return done
        length = self.trainer.num_training_batches
        return done % length if isinstance(length, int) and length else 0


def _text(sizes: Sizes) -> str:
    if isinstance(sizes, Mapping):
        return ", then ".join(f"{size} (from step {step})" for step, size in sizes.items())
    return str(sizes)
