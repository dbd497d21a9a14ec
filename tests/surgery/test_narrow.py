"""Narrowing keeps what counts: dead channels go first and the output stays."""

import pytest
import torch

from esr.config import build, compose
from esr.errors import UserError
from esr.surgery.narrow import narrow


def rlfn(width: int):
    return build(compose(overrides=["model=rlfn", f"model.width={width}"]).model)


def test_dead_channels_go_and_the_output_stays():
    torch.manual_seed(0)
    wide = rlfn(48)
    dead = [3, 17]
    with torch.no_grad():
        small = rlfn(46).state_dict()
        for name, tensor in wide.state_dict().items():
            for dim, (a, b) in enumerate(zip(tensor.shape, small[name].shape, strict=True)):
                if (a, b) == (48, 46):
                    tensor.index_fill_(dim, torch.tensor(dead), 0.0)
    x = torch.rand(1, 3, 20, 20)
    thin = narrow(wide, rlfn(46))
    assert sum(p.numel() for p in thin.parameters()) == 317_218
    assert torch.allclose(thin(x), wide(x), atol=1e-6)


def test_concatenations_lose_whole_channels():
    """RFDN's 1x1 over four blocks is four times the trunk."""
    wide = build(compose(overrides=["model=rfdn"]).model)
    config = compose(overrides=["model=rfdn"]).model
    key = "width" if "width" in config else "channels"
    config[key] = 40
    thin = narrow(wide, build(config))
    assert thin.fuse.weight.shape[1] == 160


def test_other_architectures_are_refused():
    other = build(compose(overrides=["model=imdn"]).model)
    with pytest.raises(UserError, match="cannot narrow RLFN into IMDN"):
        narrow(rlfn(46), other)
    with pytest.raises(UserError, match=r"cannot narrow .* from \(46"):
        narrow(rlfn(46), rlfn(48))
