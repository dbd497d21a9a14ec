"""Transforms of a stage: however they are named, all are called and rehearsed alike."""

import sys
from types import ModuleType

import pytest
import torch

from esr.config import compose, plain
from esr.errors import UserError
from esr.models.rlfn import RLFN
from esr.surgery.depth import DropBlocks
from esr.surgery.fuse import fusable
from esr.surgery.importance import Taylor
from esr.surgery.prune import Prune
from esr.surgery.rebuild import build_network
from esr.surgery.transform import read_transform

SMALL = {"_target_": "esr.models.rlfn.RLFN", "width": 8, "mid": 8, "depth": 2, "esa_width": 4}
ECB = {"_target_": "esr.models.reparam.blocks.ECB", "_partial_": True}


@pytest.mark.parametrize("entry", ["fuse", "esr.surgery.fuse.fuse", "esr.surgery.fuse.Fuse"])
@pytest.mark.parametrize("wrap", [str, lambda name: {"_target_": name}])
def test_fuse_is_known_by_all_its_names(entry, wrap):
    config = {**SMALL, "conv": ECB}
    net, deployed = read_transform(wrap(entry))(build_network(config), config, None)
    assert deployed == SMALL
    assert not fusable(net)


@pytest.mark.parametrize(
    "how",
    [
        {"_target_": "esr.surgery.rescale.rescale"},
        {"_target_": "esr.surgery.rescale.Rescale", "_recursive_": False},
    ],
)
def test_rescale_gives_the_configuration_of_the_other_scale(how):
    double, quadruple = (
        plain(compose(overrides=["model=rfdn", f"scale={n}"]).model) for n in (2, 4)
    )
    net = build_network(double)
    result, config = read_transform({**how, "into": quadruple})(net, double, None)
    assert config == quadruple
    assert torch.equal(result.head.weight, net.head.weight)
    assert result(torch.rand(1, 3, 16, 16)).shape == (1, 3, 64, 64)


def widen(net, config, data, by=1):
    return net, {**config, "width": config["width"] + by, "data": data}


def test_a_function_takes_its_other_keys_as_keywords(monkeypatch):
    module = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    monkeypatch.setattr(module, "widen", widen, raising=False)
    monkeypatch.setattr(module, "halve", lambda net: net, raising=False)
    net = build_network(SMALL)
    _, config = read_transform({"_target_": "mine.widen", "by": 3})(net, SMALL, None)
    assert config == {**SMALL, "width": 11, "data": None}
    assert read_transform("mine.widen")(net, SMALL, None)[1]["width"] == 9
    with pytest.raises(UserError, match=r"transform mine\.halve: it is called with the network"):
        read_transform("mine.halve")


@pytest.mark.parametrize("entry", ["fuze", 3, {"target": {"flops": 0.5}}])
def test_what_is_no_transform_is_told(entry):
    with pytest.raises(UserError, match="a name such as fuse, or a mapping with _target_; got"):
        read_transform(entry)


def test_a_rehearsal_looks_at_no_data_and_times_nothing(monkeypatch):
    monkeypatch.setattr("esr.surgery.prune.time_ratio", None)  # calling it would fail
    monkeypatch.setattr("esr.surgery.prune.draw", None)
    monkeypatch.setattr("esr.surgery.depth.draw", None)
    net = build_network(SMALL)
    assert isinstance(net, RLFN)
    _, config = Prune({"runtime": 0.7}, importance=Taylor())(net, SMALL, None)
    assert config["width"] < 8
    _, config = DropBlocks()(net, SMALL, None)
    assert config["depth"] == 1


def test_data_is_only_opened_by_who_looks_at_it():
    def batches():
        raise AssertionError("opened")
        yield {}

    net = build_network(SMALL)
    Prune(widths={"width": 6})(net, SMALL, batches())
    with pytest.raises(AssertionError, match="opened"):
        Prune(widths={"width": 6}, importance=Taylor())(net, SMALL, batches())
