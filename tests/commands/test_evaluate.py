"""`evaluate.py`: figures that can be recomputed from its files, and messages for what is wrong."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from esr.commands import evaluate as scoring
from esr.config import build, compose
from esr.data.resize import imresize
from esr.errors import UserError
from esr.evaluation.selection import select
from esr.files import sha256
from esr.zoo import catalogue as zoo
from esr.zoo.deploy import save_deploy

MODEL = {"_target_": "esr.models.rlfn.RLFN", "scale": 2, "width": 8, "mid": 8, "depth": 1}
SIZES = {"one": (72, 96), "two": (96, 80), "three": (120, 64)}


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A deploy file of a small network, and a folder of smooth images with their LR."""
    folder = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    save_deploy(build(MODEL), MODEL, folder / "net.safetensors")
    random = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        noise = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        hr = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
        for part, image in (("HR", hr), ("LR", imresize(hr, 0.5))):
            (folder / part).mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / part / f"{name}.png")
    return folder


def evaluate(work: Path, folder: Path, *overrides: str) -> float | None:
    typed = [
        f"folder={folder}",
        "device=cpu",
        "seconds=0",
        "data=folder",
        f"data.val.hr={work / 'HR'}",
        f"data.val.lr={work / 'LR'}",
        *overrides,
    ]
    return scoring.run(compose("evaluate", typed))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def psnr(one: np.ndarray, other: np.ndarray, border: int) -> float:
    inner = (slice(border, -border), slice(border, -border))
    error = one[inner].astype(np.float64) - other[inner].astype(np.float64)
    return float(20 * np.log10(255 / np.sqrt((error**2).mean())))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def test_figures_follow_from_the_saved_images(work: Path, tmp_path: Path):
    out = tmp_path / "out"
    checkpoint = work / "net.safetensors"
    value = evaluate(work, out, f"checkpoint={checkpoint}", "save_images=true", "name=tiny")
    saved = sorted(path.stem for path in (out / "images").rglob("*.png"))
    assert saved == sorted(SIZES)
    recomputed = {
        path.stem: psnr(pixels(path), pixels(work / "HR" / path.name), 2)
        for path in (out / "images").rglob("*.png")
    }
    per_image = {
        row["image"]: float(row["psnr_rgb"])
        for row in table(out / "images.csv")
        if row["network"] == "tiny"
    }
    assert per_image == pytest.approx(recomputed, abs=1e-9)
    assert value == pytest.approx(np.mean(list(recomputed.values())), abs=1e-9)

    record = json.loads((out / "results.json").read_text())
    assert record["metrics"]["val/psnr_rgb"] == value
    assert record["bicubic"]["val/psnr_rgb"] > value  # the network was never trained
    assert record["network"]["sha256"] == sha256(checkpoint)
    assert record["network"]["model"] == MODEL
    assert record["protocol"]["complexity"]["counter"] == "ntire2022"
    assert record["device"]["type"] == "cpu"
    assert record["versions"]["torch"] == torch.__version__
    (line,) = table(out / "results.csv")
    assert float(line["psnr_rgb"]) == value
    assert line["images"] == "3"
    assert line["sha256"] == record["network"]["sha256"]


def test_tiles_that_cover_all_there_is_give_the_same_figure(work: Path, tmp_path: Path):
    checkpoint = f"checkpoint={work / 'net.safetensors'}"
    whole = evaluate(work, tmp_path / "whole", checkpoint)
    tiled = evaluate(work, tmp_path / "tiled", checkpoint, "tile=64", "tile_overlap=16")
    assert tiled == pytest.approx(whole, abs=1e-6)
    record = json.loads((tmp_path / "tiled" / "results.json").read_text())
    assert record["protocol"]["tile"] == "64, overlap 16, crop"


def test_images_without_hr_are_super_resolved(work: Path, tmp_path: Path):
    checkpoint = f"checkpoint={work / 'net.safetensors'}"
    evaluate(work, tmp_path / "scored", checkpoint, "save_images=true")
    assert evaluate(work, tmp_path / "out", checkpoint, f"input={work / 'LR'}") is None
    for path in (tmp_path / "scored" / "images").rglob("*.png"):
        np.testing.assert_array_equal(pixels(tmp_path / "out" / path.name), pixels(path))
    evaluate(work, tmp_path / "single", checkpoint, f"input={work / 'LR' / 'one.png'}")
    assert [path.name for path in (tmp_path / "single").iterdir()] == ["one.png"]
    with pytest.raises(UserError, match=r"three\.png.*at least"):
        evaluate(work, tmp_path / "small", checkpoint, f"input={tiny_images(tmp_path)}")


def tiny_images(folder: Path) -> Path:
    (folder / "tiny").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "tiny" / "three.png")
    return folder / "tiny"


def test_an_architecture_alone_is_counted_but_not_scored(work: Path, tmp_path: Path):
    assert evaluate(work, tmp_path, "model=imdn") is None
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["data"] is None
    assert record["metrics"]["eff/params_m"] == 0.893936
    assert table(tmp_path / "results.csv")[0]["sha256"] == ""


def test_what_is_wrong_is_said(work: Path, tmp_path: Path):
    checkpoint = f"checkpoint={work / 'net.safetensors'}"
    for overrides, message in {
        (): r"no network was named.*ntire2022=ENTRY",
        ("checkpoint=ntire2022/TYPO",): "no entry 'ntire2022/TYPO'; .*there are: aaln",
        ("checkpoint=runs/TYPO",): "there is no checkpoint runs/TYPO",
        ("checkpoint=rlfn",): "there is no checkpoint rlfn. Did you mean the entry .*/rlfn",
        (checkpoint, "device=tpu"): "device=tpu is unknown",
        (checkpoint, "device=cuda:99"): "PyTorch sees",
        (checkpoint, "tile=16"): "overlap must be",
        (checkpoint, "tile=8", "tile_overlap=2"): "needs tiles of at least",
        (checkpoint, "model=imdn"): "does not fit IMDN: .* missing: blocks.0",
        (checkpoint, "counter=mine"): "counter 'mine' is unknown",
        ("model=rlfn", "conv=ecb", checkpoint): "does not fit RLFN",
    }.items():
        with pytest.raises(UserError, match=message):
            evaluate(work, tmp_path / "out", *overrides)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results.json").write_text("{}")
    with pytest.raises(UserError, match="already holds results"):
        evaluate(work, tmp_path / "old", checkpoint)


def test_a_run_is_called_by_its_name(work: Path, tmp_path: Path):
    run = tmp_path / "2026-01-02_03-04-05_tiny"
    run.mkdir()
    shutil.copy(work / "net.safetensors", run / "deploy.safetensors")
    for path in (run, run / "deploy.safetensors"):
        cfg = compose("evaluate", [f"checkpoint={path}"])
        assert select(cfg).name == "tiny"


def test_an_entry_is_chosen_without_its_recipe():
    """evaluate.py composes what scoring uses: an entry's name, nothing that trains."""
    cfg = compose("evaluate", ["ntire2022=rlfn"])
    assert cfg.entry == "ntire2022/rlfn"
    assert not {"loss", "optim", "schedule", "trainer", "callbacks", "stages"} & set(cfg)
    chosen = select(compose("evaluate", ["ntire2022=rlfn", "weights=null"]))
    assert chosen.model == dict(zoo.entry("ntire2022/rlfn").config())


def test_the_door_takes_an_entry_as_a_checkpoint(shared: Path):
    folder = f"weights_folder={shared / 'ntire2022' / 'weights'}"
    by_name = select(compose("evaluate", ["checkpoint=ntire2022/rlfn", folder]))
    by_group = select(compose("evaluate", ["ntire2022=rlfn", folder]))
    assert by_name == dataclasses.replace(by_group, net=by_name.net)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "imdn_baseline.pth",
        "rfdn_baseline.pth",
        "team04_rlfn.pth",
        "rlfn_paper_x4.pth",
    ],
)
def test_published_psnr_on_set5(shared: Path, tmp_path: Path, file: str):
    slug = {"imdn_baseline.pth": "imdn", "rfdn_baseline.pth": "rfdn", "team04_rlfn.pth": "rlfn"}
    expected = json.loads((shared / "ntire2022" / "psnr.json").read_text())
    typed = [
        f"checkpoint={shared / 'ntire2022' / 'weights' / file}",
        f"folder={tmp_path}",
        "device=cpu",
        "seconds=0",
        "data=benchmark",
        f"data.val.root={shared / 'data'}",
        "data.val.names=[Set5]",
    ]
    scoring.run(compose("evaluate", typed))
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    for key, value in expected[slug.get(file, "rlfn_paper_x4")]["Set5"].items():
        assert metrics[f"val/psnr_{key}"] == pytest.approx(value, abs=0.005)
