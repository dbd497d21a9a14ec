"""The data of a run as Lightning asks for it; everything below it knows nothing of Lightning."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from esr.data.images import MAX_PIXELS
from esr.data.patches import Batch, PatchBatches, TrainLoader, finish
from esr.data.sampler import PatchSampler, probabilities
from esr.data.schedule import Schedule, Sizes
from esr.data.sets import Folder, HeldOut, ImageSet
from esr.data.store import FileStore, Store, check, fingerprint, load
from esr.errors import UserError

Sets = ImageSet | Mapping[str, ImageSet] | None


class SRData(pl.LightningDataModule):
    """Patches to train on and whole images to validate with, as pairs of LR and HR.

    After the transfer to the device a training batch is `{"lr", "hr"}`, float RGB (N, 3, H, W) in
    [0, 1]; a validation batch holds one image and its name: `{"lr", "hr", "name"}`.

    Args:
        scale: of the super-resolution: 2, 3 or 4.
        train: the training set, several by name, or None (validation only).
        val: the validation set, several by name; None, or a folder without `hr`, holds out a tenth
            of the training images (`esr.data.sets.HeldOut`).
        store: ram, memmap, files or gpu: where decoded images lie.
        patch_size: side of the training patches in HR pixels, or sizes by step.
        batch_size: patches a batch over all devices together, or sizes by step.
        samples_per_epoch: patches an epoch; an epoch is this count, nothing else.
        num_workers: processes that cut patches; 0: the training process does.
        seed: sample n of the run is a function of (seed, n).
        sampling: draw images by area or uniformly.
        flips: flip and rotate by 90 degrees at random.
        colours: permute the colours at random.
        max_pixels: refuse larger images.
    """

    def __init__(
        self,
        scale: int,
        train: Sets = None,
        val: Sets = None,
        store: Literal["ram", "memmap", "files", "gpu"] = "ram",
        patch_size: Sizes = 256,
        batch_size: Sizes = 64,
        samples_per_epoch: int = 64000,
        num_workers: int = 0,
        seed: int = 0,
        sampling: Literal["area", "image"] = "area",
        flips: bool = True,
        colours: bool = False,
        max_pixels: int = MAX_PIXELS,
    ):
        super().__init__()
        self.scale = scale
        self.store = store
        self.patch_size, self.batch_size = patch_size, batch_size
        self.samples_per_epoch = samples_per_epoch
        self.num_workers, self.seed, self.sampling = num_workers, seed, sampling
        self.flips, self.colours = flips, colours
        self.max_pixels = max_pixels
        self.train_sets, self.val_sets = _split(train, val)
        self.val_names = list(self.val_sets)
        self._train: Store | None = None
        self._members: list[int] = []
        self._val: dict[str, Store] = {}

    def prepare_data(self) -> None:
        """Download what is absent (one process a machine)."""
        for images in (*self.train_sets.values(), *self.val_sets.values()):
            images.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Check every image and open the stores; whatever is wrong is said here, by file."""
        if not self._val:
            self._val = {name: self._open({name: images}) for name, images in self.val_sets.items()}
        if stage in (None, "fit") and self._train is None and self.train_sets:
            self._members = [len(s.pairs(self.scale)) for s in self.train_sets.values()]
            self._train = self._open(self.train_sets)

    def train_dataloader(self) -> TrainLoader:
        """Endless deterministic patches from the run's position on."""
        if self._train is None:
            raise UserError("this data has no training set: choose data=sample, folder or div2k")
        trainer = self.trainer
        rank, world, accumulate = 0, 1, 1
        if trainer is not None:
            rank, world = trainer.global_rank, trainer.world_size
            accumulate = trainer.accumulate_grad_batches
        schedule = Schedule(self.batch_size, self.patch_size, self.scale, accumulate)
        weights = [images.weight for images in self.train_sets.values()]
        chances = probabilities(self._train.sizes, self._members, weights, self.sampling)
        sampler = PatchSampler(self._train.sizes, chances, self.seed)
        batches = PatchBatches(
            self._train, sampler, schedule, rank, world, self.flips, self.colours
        )
        length = max(1, self.samples_per_epoch // schedule.batch_sizes[0])
        on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return TrainLoader(batches, length, self._position, self.num_workers, on_gpu)

    def val_dataloader(self) -> list[DataLoader]:
        """One loader of whole images for each validation set, in the order of `val_names`."""
        return [DataLoader(WholeImages(store), collate_fn=_single) for store in self._val.values()]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment training patches on the device."""
        return finish(batch) if "code" in batch else batch

    def describe(self) -> list[str]:
        """What the run trains and validates on, in lines for the user."""
        lines = []
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
            lines.append(f"validation images  {len(store.names)} ({name})")
        return lines

    def checksum(self) -> str:
        """A fingerprint of all images' names and content."""
        stores = {f"val/{name}": store for name, store in self._val.items()}
        if self._train is not None:
            stores["train"] = self._train
        return fingerprint(list(stores), [store.checksum() for store in stores.values()])

    def _open(self, sets: Mapping[str, ImageSet]) -> Store:
        pairs = [pair for images in sets.values() for pair in images.pairs(self.scale)]
        checked = check(pairs, self.scale, self.max_pixels)
        if self.store == "files":
            return FileStore(checked, self.scale, self.max_pixels)
        return load(checked, self.scale, self.max_pixels)

    def _position(self) -> int:
        """Batches that this run has trained on. Counted by the trainer, so it survives a resume."""
        if self.trainer is None:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed


class WholeImages(Dataset):
    """Pairs as float RGB (1, 3, H, W) in [0, 1]."""

    def __init__(self, store: Store):
        self._store = store

    def __len__(self) -> int:
        return len(self._store.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One image with its name."""
        lr, hr = self._store.pair(index)
        return {"lr": _image(lr), "hr": _image(hr), "name": [self._store.names[index]]}


def _image(image: np.ndarray) -> torch.Tensor:
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    return torch.from_numpy(planes).float().div_(255)


def _single(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


def _split(train: Sets, val: Sets) -> tuple[dict[str, ImageSet], dict[str, ImageSet]]:
    """Training and validation sets by name; without a validation set, some images are held out."""
    train_sets, val_sets = _named(train), _named(val)
    missing = not val_sets or any(isinstance(s, Folder) and s.hr is None for s in val_sets.values())
    if missing and train_sets:
        val_sets = {name: HeldOut(images, "val") for name, images in train_sets.items()}
        train_sets = {name: HeldOut(images, "train") for name, images in train_sets.items()}
    return train_sets, val_sets


def _named(sets: Sets) -> dict[str, ImageSet]:
    if sets is None:
        return {}
    return dict(sets) if isinstance(sets, Mapping) else {sets.name: sets}


def _text(sizes: Sizes) -> str:
    if isinstance(sizes, Mapping):
        return ", then ".join(f"{size} (from step {step})" for step, size in sizes.items())
    return str(sizes)
