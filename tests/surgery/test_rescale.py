"""Weights carried from x2 to x4."""

import pytest
import torch

from esr.config import build, compose
from esr.errors import UserError
from esr.surgery.rescale import rescale


def net(name: str, scale: int, *more: str):
    return build(compose(overrides=[f"model={name}", f"scale={scale}", *more]).model)


@pytest.mark.parametrize("name", ["imdn_paper", "rfdn", "edsr_baseline", "pan"])
def test_everything_but_the_upsampling_is_carried(name: str):
    old, fresh = net(name, 2), net(name, 4)
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    new = rescale(old, fresh)
    for key, value in new.state_dict().items():
        if key.startswith(("head", "blocks", "trunk", "fuse")):
            assert torch.equal(value, old.state_dict()[key])
    assert new(torch.rand(1, 3, 16, 16)).shape == (1, 3, 64, 64)
    assert any(torch.equal(before[key], value) for key, value in new.state_dict().items())


def test_other_widths_are_refused():
    with pytest.raises(UserError, match=r"cannot carry RFDN over to RFDN: they differ in blocks"):
        rescale(net("rfdn", 2, "model.width=40"), net("rfdn", 4))
