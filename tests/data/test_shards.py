"""Streamed shards: the same samples for any division of the work, and each rank reads its own."""

import json

import numpy as np
import pytest
import torch

from esr.data.sampling import Schedule
from esr.data.sets import Folder
from esr.data.shards import ShardBatches, Shards, write_shards
from esr.data.store import check, load
from esr.errors import UserError
from esr.training.datamodule import SRData

pytest.importorskip("webdataset", reason="needs pip install 'esr[stream]'")


@pytest.fixture
def written(folder, tmp_path):
    """Ten images in five shards."""
    hr = folder(count=10)
    write_shards(Folder(str(hr)).pairs(4), 4, tmp_path / "shards", megabytes=0.04)
    index = json.loads((tmp_path / "shards" / "shards.json").read_text())
    assert len(index["shards"]) == 5
    return hr, tmp_path / "shards"


def batches(url, cache, rank=0, world=1, visit=10) -> ShardBatches:
    shards = Shards(str(url), lanes=4, visit=visit, keep=8, cache=str(cache))
    return ShardBatches(shards, Schedule(8, 32, 4), 4, 7, rank=rank, world=world)


def test_shards_hold_the_very_pixels(written, tmp_path):
    hr, url = written
    expected = load(check(Folder(str(hr)).pairs(4), 4))
    source = batches(url, tmp_path / "cache")
    names = []
    for shard in source.shards.index(4):
        store = source.shards.open(shard, 4)
        for index, name in enumerate(store.names):
            for mine, theirs in zip(
                store.pair(index), expected.pair(expected.names.index(name)), strict=True
            ):
                np.testing.assert_array_equal(mine, theirs)
        names += store.names
    assert names == expected.names


def test_batches_are_equal_for_any_number_of_ranks(written, tmp_path):
    _, url = written
    whole = [batches(url, tmp_path / "one")[number] for number in range(12)]
    for world in (2, 4):
        parts = [batches(url, tmp_path / f"{world}-{r}", r, world) for r in range(world)]
        for number in range(12):
            for key in ("lr", "hr", "code", "seed"):
                joined = torch.cat([part[number][key] for part in parts])
                assert torch.equal(joined, whole[number][key])


def test_a_rank_reads_only_the_shards_of_its_lanes(written, tmp_path):
    _, url = written
    batches(url, tmp_path / "cache", rank=1, world=4, visit=1000)[0]
    assert len(list((tmp_path / "cache").rglob("*.u8"))) == 1


def test_all_shards_are_gone_through_before_one_comes_again(written, tmp_path):
    _, url = written
    shards = batches(url, tmp_path).shards
    orders = [shards.order(7, cycle, 5).tolist() for cycle in range(20)]
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert len({tuple(order) for order in orders}) > 10


def test_old_shards_make_room(written, tmp_path):
    _, url = written
    shards = Shards(str(url), lanes=1, visit=2, keep=2, cache=str(tmp_path / "cache"))
    source = ShardBatches(shards, Schedule(2, 32, 4), 4, 7)
    for number in range(10):
        source[number]
    assert len(list((tmp_path / "cache").rglob("*.u8"))) == 2


def test_a_shard_that_is_not_whole_is_named(written, tmp_path):
    _, url = written
    index = json.loads((url / "shards.json").read_text())
    index["shards"][0]["names"].append("more")
    index["shards"][0]["sizes"].append([16, 16])
    (url / "shards.json").write_text(json.dumps(index))
    source = batches(url, tmp_path / "cache")
    with pytest.raises(UserError, match=r"000000\.tar holds 2 of 3"):
        source.shards.open(source.shards.index(4)[0], 4)


def test_a_shard_with_more_than_its_index_says_is_named(written, tmp_path):
    _, url = written
    index = json.loads((url / "shards.json").read_text())
    shard = index["shards"][0]
    shard["names"].pop()
    shard["sizes"].pop()
    (url / "shards.json").write_text(json.dumps(index))
    source = batches(url, tmp_path / "cache")
    with pytest.raises(UserError, match=r"000000\.tar does not fit its index"):
        source.shards.open(shard, 4)


def test_what_does_not_fit_is_refused(written, tmp_path):
    _, url = written
    shards = Shards(str(url), lanes=4, keep=8)
    with pytest.raises(UserError, match="made for x4"):
        shards.index(2)
    with pytest.raises(UserError, match="lanes"):
        ShardBatches(shards, Schedule(6, 32, 4), 4, 0)
    with pytest.raises(UserError, match="smaller than 512"):
        ShardBatches(shards, Schedule(8, 512, 4), 4, 0)
    with pytest.raises(UserError, match="no shards"):
        Shards(str(tmp_path / "absent")).index(4)


def test_training_from_shards(written, tmp_path):
    hr, url = written
    shards = Shards(str(url), lanes=4, keep=8, cache=str(tmp_path))
    data = SRData(4, shards, Folder(str(hr)), store="ram", patch_size=32, batch_size=8)
    data.prepare_data()
    data.setup()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["hr"].shape == (8, 3, 32, 32)
    assert "10 in 5 shards" in data.describe()[0]
    assert data.checksum()
