"""Figures that are no numbers: written so that anybody's JSON reader takes them, read as NaN."""

import json
import math
from pathlib import Path

import pytest
import torch

from esr.config import build
from esr.files import read_json, write_json
from esr.training.folder import read_result
from esr.zoo.deploy import save_deploy
from tiny import train


def strict(path: Path):
    """As `jq` and browsers read it: a bare NaN or Infinity is an error."""

    def refuse(word: str):
        raise ValueError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_what_is_not_finite_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = {"nan": math.nan, "list": [math.inf, {"low": -math.inf}, 1.5, None, "text", True]}
    write_json(path, content)
    assert strict(path) == {"nan": "nan", "list": ["inf", {"low": "-inf"}, 1.5, None, "text", True]}
    found = read_json(path)
    assert math.isnan(found.pop("nan"))
    assert found == {"list": content["list"]}


@pytest.mark.filterwarnings("ignore:.*not finite")
def test_the_result_of_a_diverged_run_is_json(tmp_path: Path) -> None:
    model = {"_target_": "esr.models.rlfn.RLFN", "width": 8, "mid": 8, "depth": 1}
    net = build(model)
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    save_deploy(net, model, tmp_path / "nan.safetensors")
    run = tmp_path / "run"
    train(run, "trainer.max_steps=0", f"init={tmp_path / 'nan.safetensors'}")
    assert strict(run / "result.json")["metrics"]["val/psnr_rgb"] == "nan"
    metrics = read_result(run)
    assert math.isnan(metrics["val/psnr_rgb"])
    assert metrics["eff/params_m"] > 0
    assert math.isnan(read_json(run / "result.json")["metrics"]["val/psnr_rgb"])
