"""Sensitivity: where a network has room."""

import csv
from pathlib import Path

import pytest
import torch

from esr.errors import UserError
from esr.models.rlfn import RLFN
from esr.surgery.sensitivity import report_sensitivity, sensitivity

CONFIG = {"_target_": "esr.models.rlfn.RLFN", "width": 8, "mid": 8, "depth": 1, "esa_width": 4}


def network() -> RLFN:
    torch.manual_seed(0)
    net = RLFN(width=8, mid=8, depth=1, esa_width=4).eval()
    state = net.state_dict()
    with torch.no_grad():  # half of one layer does nothing
        state["blocks.0.convs.0.weight"][:4].zero_()
        state["blocks.0.convs.0.bias"][:4].zero_()
    return net


def test_a_layer_that_is_half_empty_does_not_mind(tmp_path: Path):
    net = network()
    image = torch.rand(1, 3, 20, 20)
    whole = net(image).detach()

    def score(other: torch.nn.Module) -> float:
        return float(-((other(image) - whole) ** 2).mean().detach())

    rows = report_sensitivity(net, CONFIG, score, tmp_path)
    change = {(row["layer"], row["share"]): row["change"] for row in rows}
    assert change["blocks.0.convs.0", 0.5] == pytest.approx(0, abs=1e-12)
    assert change["blocks.0.convs.0", 0.75] < 0
    trunk = next(layer for layer, _ in change if "head" in layer)
    assert change[trunk, 0.5] < change["blocks.0.convs.0", 0.75]
    with (tmp_path / "sensitivity.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert "tail.0" not in {row["layer"] for row in rows}


def test_shares_are_checked():
    with pytest.raises(UserError, match="above 0 and below 1"):
        next(sensitivity(network(), CONFIG, lambda net: 0.0, shares=[1.0]))


def test_an_unknown_configuration_is_asked_for(tmp_path: Path):
    with pytest.raises(UserError, match="model=NAME"):
        report_sensitivity(network(), None, lambda net: 0.0, tmp_path)
