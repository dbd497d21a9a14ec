"""Which files make a set, and what is said when they do not."""

import shutil

import numpy as np
import pytest
from PIL import Image

from esr.data.images import MAX_PIXELS
from esr.data.official import DIV2K, LSDIR, Flickr2K, benchmarks
from esr.data.sets import Folder, HeldOut, Sample
from esr.data.store import check
from esr.errors import UserError


def test_folders_are_searched_in_depth_and_by_name(folder):
    hr = folder(count=3)
    (hr / "deeper").mkdir()
    shutil.move(hr / "img00.png", hr / "deeper" / "img00.png")
    (hr / ".hidden.png").touch()
    (hr / "notes.txt").touch()
    assert [pair.name for pair in Folder(str(hr)).pairs(4)] == ["deeper/img00", "img01", "img02"]


def test_pairs_are_found_with_and_without_the_scale_in_their_name(folder):
    hr, lr = folder("hr", 2), folder("lr", 2)
    (lr / "img00.png").rename(lr / "img00x3.png")
    pairs = Folder(str(hr), str(lr)).pairs(3)
    assert [pair.lr.name for pair in pairs] == ["img00x3.png", "img01.png"]


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"data\.train\.hr=FOLDER"):
        Folder(None).pairs(4)
    with pytest.raises(UserError, match="absent") as error:
        Folder(str(tmp_path / "absent")).pairs(4)
    assert "data=sample" in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        Folder(str(tmp_path / "empty")).pairs(4)
    hr, lr = folder("hr", 2), folder("lr", 2)
    (lr / "img01.png").unlink()
    with pytest.raises(UserError, match=r"img01\.png has no LR"):
        Folder(str(hr), str(lr)).pairs(4)


def test_duplicates_by_name_are_refused(folder):
    hr = folder(count=1)
    Image.open(hr / "img00.png").save(hr / "img00.jpg")
    with pytest.raises(UserError, match=r"img00.*img00.*same name"):
        Folder(str(hr)).pairs(4)


def test_pairs_that_do_not_fit_are_named_with_both_sizes(folder, tmp_path):
    hr = folder("hr", 1)  # 136 x 96
    lr = tmp_path / "lr"
    lr.mkdir()
    Image.new("RGB", (34, 24)).save(lr / "img00.png")
    pairs = Folder(str(hr), str(lr)).pairs(4)
    assert check(pairs, 4)[0].size == (24, 34)
    with pytest.raises(UserError, match=r"img00\.png is 34x24, but .*136x96: at x3 .*45x32"):
        check(pairs, 3)


def test_one_pixel_is_too_small(tmp_path):
    Image.fromarray(np.zeros((1, 1, 3), dtype=np.uint8)).save(tmp_path / "dot.png")
    with pytest.raises(UserError, match=r"dot\.png is 1x1"):
        check(Folder(str(tmp_path)).pairs(2), 2, MAX_PIXELS)


def test_held_out_images_depend_on_names_alone(folder):
    source = Folder(str(folder(count=25, size=48)))
    train = [p.name for p in HeldOut(source, "train").pairs(4)]
    val = [p.name for p in HeldOut(source, "val").pairs(4)]
    assert len(val) == 2
    assert sorted(train + val) == [p.name for p in source.pairs(4)]
    assert val == ["img12", "img18"]
    with pytest.raises(UserError, match=r"data\.val\.hr"):
        HeldOut(Folder(str(folder("one", 1))), "train").pairs(4)


def test_sample_needs_nothing_but_the_installation():
    train, val = Sample("train").pairs(4), Sample("val").pairs(4)
    assert [p.name for p in val] == ["chelsea", "coffee"]
    assert not {p.name for p in train} & {p.name for p in val}
    for item in check(train + val, 4):
        assert min(item.size) >= 64


def test_official_folder_names(tmp_path):
    root = str(tmp_path)

    def place(path):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(tmp_path / path)

    place("DIV2K_train_HR/0001.png")
    place("DIV2K_train_LR_bicubic/X4/0001x4.png")
    place("DIV2K_valid_HR/0801.png")
    place("Flickr2K/Flickr2K_HR/000001.png")
    place("Flickr2K/Flickr2K_LR_bicubic/X2/000001x2.png")
    place("LSDIR/HR/train/0001000/0000001.png")
    place("LSDIR/X4/train/0001000/0000001x4.png")
    place("Set5/HR/baby.png")
    place("Set5/LR_bicubic/X4/babyx4.png")
    assert DIV2K(root, "train").pairs(4)[0].lr.name == "0001x4.png"
    assert DIV2K(root, "valid", lr="made").pairs(4)[0].lr is None
    assert Flickr2K(root).pairs(2)[0].lr.name == "000001x2.png"
    assert LSDIR(root, "train", lr="official").pairs(4)[0].name == "0001000/0000001"
    set5 = benchmarks(root, ["Set5"])["Set5"]
    assert set5.pairs(4)[0].lr.name == "babyx4.png"
    assert set5.pairs(3)[0].lr is None  # no such folder: made
    with pytest.raises(UserError, match="DIV2K_train_LR_bicubic/X2"):
        DIV2K(root, "train").pairs(2)
    with pytest.raises(UserError, match="official or made"):
        DIV2K(root, "train", lr="both")  # pyright: ignore
