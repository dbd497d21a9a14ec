"""A challenge in one process: tables from published figures, measuring, resuming, one's own net."""

import csv
import json

import pytest
import torch

from esr.challenge import run as challenge
from esr.challenge import tables as standings
from esr.config import compose
from esr.errors import UserError
from esr.models.rlfn import RLFN
from esr.zoo import catalogue as zoo
from esr.zoo.deploy import save_deploy


def evaluate(*overrides: str):
    return challenge.run(compose("evaluate", ["challenge=ntire2022", *overrides]))


@pytest.fixture
def set5(shared):
    return [
        "data=benchmark",
        f"data.val.root={shared / 'data'}",
        "data.val.names=[Set5]",
        f"weights_folder={shared / 'ntire2022' / 'weights'}",
        "device=cpu",
        "seconds=0",
    ]


def read(folder):
    with (folder / "leaderboard.csv").open(newline="") as file:
        return {row["team"]: row for row in csv.DictReader(file)}


def test_published_figures_alone(tmp_path):
    evaluate("source=published", f"folder={tmp_path}")
    rows = read(tmp_path)
    assert len(rows) == 45
    assert (rows["ByteESR"]["main"], rows["ByteESR"]["sub1"], rows["ByteESR"]["sub2"]) == (
        "1", "11", "2",
    )  # fmt: skip
    assert rows["VAP"]["main"] == ""
    assert "MegSR and Alpan" in (tmp_path / "leaderboard.md").read_text()
    assert json.loads((tmp_path / "leaderboard.json").read_text())["source"] == "published"


@pytest.mark.slow
def test_entries_are_measured_or_say_why_not(tmp_path, set5, capsys):
    folder = tmp_path / "board"
    evaluate(*set5, f"folder={folder}")
    rows = read(folder)
    assert len(rows) == 45
    assert float(rows["ByteESR"]["psnr_rgb"]) == pytest.approx(30.2058, abs=0.005)
    assert float(rows["ByteESR"]["published_psnr_val"]) == 29.0
    assert rows["Drinktea"]["status"] == "weights absent"
    assert rows["Express"]["status"] == "not released"
    for row in rows.values():  # the released code of XPixel counts fewer FLOPs than published
        if row["status"] != "measured":
            continue
        for key, digits in (("params_m", 3), ("flops_g", 2), ("acts_m", 2), ("convs", 0)):
            published = float(row[f"published_{key}"])
            if (row["slug"], key) != ("bsrn", "flops_g"):
                assert round(float(row[key]), digits) == pytest.approx(published, abs=1e-9)
        assert not row.get("ave_time_ms")  # not timed
        assert not row.get("mem_m")  # no CUDA

    # Typed again, what is there is not measured again; what is missing is.
    (folder / "entries" / "rfdn.json").unlink()
    stamps = {p.name: p.stat().st_mtime_ns for p in (folder / "entries").glob("*.json")}
    evaluate(*set5, f"folder={folder}")
    after = {p.name: p.stat().st_mtime_ns for p in (folder / "entries").glob("*.json")}
    assert after.keys() - stamps.keys() == {"rfdn.json"}
    assert {name: after[name] for name in stamps} == stamps
    assert read(folder) == rows


@pytest.mark.slow
def test_ones_own_network_is_placed(tmp_path, set5):
    net = zoo.load("ntire2022/rlfn", folder=set5[3].removeprefix("weights_folder="))
    model = {"_target_": "esr.models.rlfn.RLFN", "scale": 4, "data_range": 255.0}
    path = tmp_path / "mine.safetensors"
    save_deploy(net, model, path, {"scale": 4})
    value = evaluate(
        *set5[:3], "device=cpu", "protocol=ntire2022", f"weights_folder={tmp_path}",
        f"checkpoint={path}", f"folder={tmp_path / 'board'}",
    )  # fmt: skip
    assert value == pytest.approx(30.2058, abs=0.005)
    own = json.loads((tmp_path / "board" / "leaderboard.json").read_text())["own"]
    placing = own["placing"]
    assert placing["of"] == 36
    assert placing["metrics"]["params_m"] == 11  # beside the entry itself
    assert placing["metrics"]["flops_g"] == 11
    assert placing["tracks"]["sub2"] is None  # memory cannot be measured here
    assert "of 36 in runtime" in placing["sentence"]
    assert placing["admitted"] is None
    assert "Set5" in placing["admission"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not finite")
def test_output_that_is_not_finite_has_no_score(tmp_path, set5):
    net = RLFN()
    torch.nn.init.constant_(net.trunk.weight, float("nan"))
    path = tmp_path / "broken.safetensors"
    save_deploy(net, {"_target_": "esr.models.rlfn.RLFN"}, path, {"scale": 4})
    evaluate(
        *set5[:3], "device=cpu", "seconds=0", f"weights_folder={tmp_path}",
        f"checkpoint={path}", f"folder={tmp_path / 'board'}",
    )  # fmt: skip
    own = json.loads((tmp_path / "board" / "leaderboard.json").read_text())["own"]
    assert own["row"]["psnr_rgb"] is None
    assert own["row"]["note"] == "the output is not finite"


def test_correlation_of_ranks():
    rows = [
        {"runtime_ratio": ratio, "published_ave_time_ms": ms}
        for ratio, ms in [(1.0, 10.0), (3.0, 20.0), (2.0, 30.0), (9.0, 40.0)]
    ]
    assert standings.correlation(rows) == pytest.approx(0.8)
    assert standings.correlation(rows[:2]) is None
    assert standings.correlation([*rows, {"runtime_ratio": None}]) == pytest.approx(0.8)
    assert torch.equal(
        standings._average_ranks(torch.tensor([5.0, 5.0, 1.0])), torch.tensor([2.5, 2.5, 1])
    )


@pytest.mark.parametrize(
    ("override", "known"),
    [
        ("challenge=ntire2030", "aim2019.*ntire2026"),
        ("source=guessed", "measured, published"),
        ("counter=thop", "ntire2022.*fvcore.*exact"),
        ("protocol=quick", "ntire2022, stable"),
    ],
)
def test_unknown_words_list_the_known(override, known):
    with pytest.raises(UserError, match=known):
        evaluate(override)


def test_an_edition_without_entries_says_what_it_is_good_for():
    with pytest.raises(UserError, match=r"esr\.challenge\.rank"):
        evaluate("challenge=ntire2024")
