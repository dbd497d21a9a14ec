"""All stores, workers and ranks give the same bytes."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from esr.data.augment import Finishing
from esr.data.device import DeviceBatches
from esr.data.open import open_store
from esr.data.patches import PatchBatches, TrainLoader
from esr.data.sampling import PatchSampler, Schedule
from esr.data.sets import Folder
from esr.errors import UserError

KINDS = ("ram", "memmap", "files", "gpu")
SEED = 7


def batches(hr: Path, kind, cache: Path, rank=0, world=1, batch=20, patch=32, colours=True):
    store = open_store({"set": Folder(str(hr))}, "train", 4, kind, cache)
    sampler = PatchSampler(store.sizes, store.sizes.prod(axis=1), SEED)
    schedule = Schedule(batch, patch, 4)
    if kind == "gpu":
        device = torch.device("cpu")
        return DeviceBatches(store, sampler, schedule, device, rank, world, colours=colours)
    return PatchBatches(store, sampler, schedule, rank, world, colours=colours)


def digest(finished) -> str:
    """Of the samples' finished pixels, in the order of their numbers."""
    found = hashlib.sha256()
    for batch in finished:
        for lr, hr in zip(batch["lr"], batch["hr"], strict=True):
            found.update(lr.numpy().tobytes())
            found.update(hr.numpy().tobytes())
    return found.hexdigest()


def stream(source: PatchBatches, count: int, workers: int = 0):
    loader = TrainLoader(source, count, lambda: 0, workers)
    finish = Finishing()
    return (finish(batch) for batch in loader)


def joined(parts):
    """The global batches of several ranks."""
    for ranks in zip(*parts, strict=True):
        yield {key: torch.cat([rank[key] for rank in ranks]) for key in ("lr", "hr")}


def same_everywhere(hr: Path, cache: Path, count: int, workers: tuple[int, ...]) -> None:
    expected = digest(stream(batches(hr, "ram", cache), count))
    for kind in KINDS:
        assert digest(stream(batches(hr, kind, cache), count)) == expected, kind
    for number in workers:
        assert digest(stream(batches(hr, "memmap", cache), count, number)) == expected, number
    for world in (2, 4):
        parts = [stream(batches(hr, "ram", cache, rank, world), count) for rank in range(world)]
        assert digest(joined(parts)) == expected, world


def test_stores_workers_and_ranks_agree(folder, tmp_path):
    same_everywhere(folder(count=3), tmp_path / "cache", 4, (1,))


@pytest.mark.slow
def test_the_first_10000_samples_agree_everywhere(folder, tmp_path):
    same_everywhere(folder(count=4, size=48), tmp_path / "cache", 500, (1, 4))


def test_patches_are_what_the_images_hold(folder, tmp_path):
    """Without flips a patch is a cut of the image; its LR is the same cut of the LR image."""
    source = batches(folder(), "memmap", tmp_path)
    source.flips = source.colours = False
    draws = source.sampler.draw(0, 20, 8)
    batch = source[0]
    for n in range(20):
        lr, hr = source.store.pair(draws.image[n])
        y, x = draws.row[n], draws.column[n]
        np.testing.assert_array_equal(batch["lr"][n], lr[y : y + 8, x : x + 8])
        np.testing.assert_array_equal(batch["hr"][n], hr[4 * y : 4 * y + 32, 4 * x : 4 * x + 32])


def test_checksums_tell_content_not_the_store(folder, tmp_path):
    hr, other = folder(), folder("other")
    sums = {kind: batches(hr, kind, tmp_path).store.checksum() for kind in ("ram", "memmap", "gpu")}
    assert len(set(sums.values())) == 1
    assert batches(other, "ram", tmp_path).store.checksum() not in sums.values()
    files = batches(hr, "files", tmp_path).store
    assert files.checksum() == batches(hr, "files", tmp_path).store.checksum()


def test_several_sets_are_joined(folder, tmp_path):
    sets = {"a": Folder(str(folder("a", 2))), "b": Folder(str(folder("b", 3)))}
    found = {kind: open_store(sets, "train", 4, kind, tmp_path) for kind in KINDS[:3]}
    for store in found.values():
        assert store.names == ["a/img00", "a/img01", "b/img00", "b/img01", "b/img02"]
        for index in range(5):
            for mine, theirs in zip(store.pair(index), found["ram"].pair(index), strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_a_packed_store_travels_to_spawned_workers_without_its_pixels(folder, tmp_path):
    store = batches(folder(count=6), "memmap", tmp_path).store
    carried = pickle.dumps(store)
    assert len(carried) < 2000
    np.testing.assert_array_equal(pickle.loads(carried).pair(5)[1], store.pair(5)[1])


def test_images_smaller_than_the_patch_are_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"img00 is 136x96 .*data\.patch_size=96"):
        batches(folder(), "ram", tmp_path, patch=128)


def test_batches_that_do_not_divide_among_the_ranks_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="global"):
        batches(folder(), "ram", tmp_path, 0, 3)


def test_unknown_stores_are_refused_with_the_known_ones(folder, tmp_path):
    with pytest.raises(UserError, match="ram, memmap, files, gpu"):
        batches(folder(), "lmdb", tmp_path)


def test_the_stream_goes_on_over_epochs_and_begins_anew_where_the_run_stands(folder, tmp_path):
    source, consumed = batches(folder(), "ram", tmp_path), [0]
    loader = TrainLoader(source, 3, lambda: consumed[0])
    whole = [batch["seed"].tolist() for batch in stream_of(source, 9)]
    found = []
    for _ in range(2):
        for batch in loader:
            found.append(batch["seed"].tolist())
            consumed[0] += 1
    assert found == whole[:6]
    consumed[0] = 4  # resumed from an earlier checkpoint
    assert next(iter(loader))["seed"].tolist() == whole[4]


def test_a_resumed_run_with_another_batch_size_repeats_and_skips_nothing(folder, tmp_path):
    hr = folder()
    before = TrainLoader(batches(hr, "ram", tmp_path, batch=20), 10, lambda: 3)
    after = TrainLoader(batches(hr, "ram", tmp_path, batch=5), 10, lambda: 3)
    after.load_state_dict(before.state_dict())
    expected = batches(hr, "ram", tmp_path).sampler.draw(60, 5, 8).seed
    assert next(iter(after))["seed"].tolist() == expected.tolist()
    assert after.state_dict() == {"batches": 3, "samples": 60}


def stream_of(source, count):
    return (source[number] for number in range(count))
