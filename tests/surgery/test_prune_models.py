"""Every architecture in conf/model can be pruned, or says in a line a part why not."""

from pathlib import Path

import pytest
import torch

from esr.config import build, compose, conf_dir, plain
from esr.surgery.fuse import deploy_config, fuse
from esr.surgery.prune import Prune
from esr.surgery.pruning.widths import analyse, lower

pytest.importorskip("torch_pruning")

NAMES = sorted(path.stem for path in Path(conf_dir(), "model").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_is_pruned_or_explains(name: str):
    config = plain(compose("train", [f"model={name}"]).model)
    torch.manual_seed(0)
    net = fuse(build(config)).eval()
    config = deploy_config(config)
    structure = analyse(net, config)
    assert all(reason and "\n" not in reason for reason in structure.fixed.values())
    named = " ".join(structure.fixed)
    silent = [
        segment.writers[0]
        for segment in structure.segments
        if segment.fixed and segment.writers and segment.writers[0] not in named
    ]
    assert not silent
    for width in structure.widths[:1]:
        wanted = lower(structure.config, width, width.step)[width.argument]
        pruned, smaller = Prune(widths={width.argument: wanted})(net, config)
        assert sum(p.numel() for p in pruned.parameters()) < sum(
            p.numel() for p in net.parameters()
        )
        assert smaller[width.argument] == wanted
        side = max(16, getattr(net, "min_size", 1))
        with torch.no_grad():
            assert pruned(torch.rand(1, 3, side, side)).isfinite().all()
