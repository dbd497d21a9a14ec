"""A packed store is whole or not there; whatever happens while it is made, the old one stays."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esr.data.packed import PackedStore, packed
from esr.data.sets import Folder
from esr.data.store import check, load
from esr.errors import UserError

PACK = """
import sys
from pathlib import Path
from esr.data.packed import packed
from esr.data.sets import Folder
packed(Folder(sys.argv[1]).pairs(4), 4, Path(sys.argv[2]))
"""


def pack(hr: Path, target: Path, scale: int = 4, full_check: bool = False) -> PackedStore:
    return packed(Folder(str(hr)).pairs(scale), scale, target, full_check=full_check)


def equal(store: PackedStore, hr: Path) -> None:
    """The store holds what decoding gives."""
    expected = load(check(Folder(str(hr)).pairs(store.scale), store.scale))
    assert store.names == expected.names
    for index in range(len(store.names)):
        for mine, theirs in zip(store.pair(index), expected.pair(index), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert store.checksum() == expected.checksum()


def test_packing_and_opening_again(folder, tmp_path, capsys):
    hr, target = folder(), tmp_path / "store"
    equal(pack(hr, target), hr)
    assert "packing 4 images" in capsys.readouterr().err
    index = (target / "index.json").stat().st_mtime_ns
    equal(pack(hr, target), hr)
    assert (target / "index.json").stat().st_mtime_ns == index
    assert capsys.readouterr().err == ""
    assert sorted(p.suffix for p in target.iterdir()) == ["", ".json", ".u8"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda hr, _: Image.new("RGB", (99, 99)).save(hr / "img01.png"), "img01 was changed"),
        (lambda hr, _: (hr / "img01.png").unlink(), "img01 is gone"),
        (lambda hr, _: Image.new("RGB", (99, 99)).save(hr / "new.png"), "new is new"),
        (lambda _, target: shorten(next(target.glob("*.u8"))), "cut short"),
        (lambda _, target: spoil(next(target.glob("*.u8"))), "differs from what was written"),
        (lambda _, target: (target / "index.json").write_text("{"), "is damaged"),
        (lambda _, target: next(target.glob("*.u8")).unlink(), "is gone"),
    ],
)
def test_what_no_longer_fits_is_noticed_and_made_anew(folder, tmp_path, capsys, change, reason):
    hr, target = folder(), tmp_path / "store"
    pack(hr, target)
    capsys.readouterr()
    change(hr, target)
    equal(pack(hr, target, full_check=True), hr)
    assert reason in capsys.readouterr().err.replace("\n", " ")
    assert len(list(target.glob("*.u8"))) == 1


def test_another_scale_is_noticed(folder, tmp_path, capsys):
    hr, target = folder(), tmp_path / "store"
    pack(hr, target)
    equal(pack(hr, target, scale=2), hr)
    assert "made for x4, now x2" in capsys.readouterr().err.replace("\n", " ")


def test_a_broken_image_is_named_and_the_old_store_stays(folder, tmp_path):
    hr, target = folder(), tmp_path / "store"
    pack(hr, target)
    index = (target / "index.json").read_text()
    whole = (hr / "img02.png").read_bytes()
    (hr / "img02.png").write_bytes(whole[:2000] + bytes(2000) + whole[4000:])
    with pytest.raises(UserError, match=r"img02\.png is damaged"):
        pack(hr, target)
    assert (target / "index.json").read_text() == index
    PackedStore(target)
    (hr / "img02.png").write_bytes(whole)
    equal(pack(hr, target), hr)


def test_a_full_disk_is_said_and_the_old_store_stays(folder, tmp_path):
    """A limit on the size of files stands for the disk's end: writing fails the same way."""
    hr, target = folder(), tmp_path / "store"
    pack(hr, target)
    index = (target / "index.json").read_text()
    Image.new("RGB", (999, 999)).save(hr / "new.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(UserError, match=r"no room left .*data\.cache"):
            pack(hr, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert (target / "index.json").read_text() == index
    PackedStore(target)
    equal(pack(hr, target), hr)


def test_two_processes_at_once_make_one_store(folder, tmp_path):
    hr, target = folder(count=8), tmp_path / "store"
    both = [start(hr, target) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("packing 8 images into" in error for error in errors) == 1
    equal(PackedStore(target), hr)


@pytest.mark.slow
def test_packing_photographs_killed_at_random_points_is_finished(shared, tmp_path):
    """Killed until enough of it is done; each time nothing looks finished, nothing is repeated."""
    hr, target = shared / "data" / "photos", tmp_path / "store"
    chance = random.Random(0)
    done, kills = 0, 0
    while True:
        process = start(hr, target)
        goal = done + chance.randint(1, 15)
        while process.poll() is None and lines(target) < goal:
            time.sleep(0.002)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (target / "index.json").exists()
        assert lines(target) >= done
        done, kills = lines(target), kills + 1
    assert process.returncode == 0, process.communicate()[1]
    assert kills >= 3
    store = pack(hr, target, full_check=True)
    assert len(store.names) == 55
    equal(store, hr)


def test_a_killed_packing_goes_on_where_it_stopped(folder, tmp_path, capsys):
    """As above, with few images and one kill."""
    hr, target = folder(count=30, size=300), tmp_path / "store"
    process = start(hr, target)
    while lines(target) < 3:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (target / "index.json").exists()
    with next(target.glob("*.jsonl")).open("a") as journal:
        journal.write("[5, 12")  # a line that the kill cut
    capsys.readouterr()
    equal(pack(hr, target), hr)
    assert "are there already" in capsys.readouterr().err.replace("\n", " ")


def start(hr: Path, target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PACK, str(hr), str(target)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def lines(target: Path) -> int:
    """Images that the journal notes as complete."""
    try:
        texts = [journal.read_text() for journal in target.glob("*.jsonl")]
    except FileNotFoundError:  # finished between the two calls
        return 0
    return sum(line.endswith("]") for text in texts for line in text.splitlines())


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
