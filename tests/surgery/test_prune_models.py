"""Every architecture in conf/model can be pruned, or says in a line a part why not."""

from pathlib import Path

import pytest
import torch

from esr.config import build, compose, conf_dir, plain
from esr.surgery import rebuild
from esr.surgery.fuse import deploy_config, fuse
from esr.surgery.importance import FilterNorm
from esr.surgery.prune import take
from esr.surgery.widths import analyse

NAMES = sorted(path.stem for path in Path(conf_dir(), "model").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_is_pruned_without_a_trace_of_what_was_zero_or_explains(name: str):
    config = plain(compose("train", [f"model={name}"]).model)
    torch.manual_seed(0)
    net = fuse(build(config)).eval()
    structure = analyse(net, deploy_config(config))
    assert all(reason and "\n" not in reason for reason in structure.fixed.values())
    named = " ".join(structure.fixed)
    silent = [
        segment.writers[0]
        for segment in structure.segments
        if segment.fixed and segment.writers and segment.writers[0] not in named
    ]
    assert not silent
    assert structure.widths or structure.fixed
    smaller = structure.config
    for width in structure.widths[:1]:
        smaller = width.lower(structure.config, width.step)
        random = torch.Generator().manual_seed(0)
        scores = [torch.rand(s.size, generator=random) for s in structure.segments]
        kept = rebuild.strongest(scores, structure.counts(smaller))
        zeroed = rebuild.silence(structure.net.state_dict(), structure.segments, kept)
        structure.net.load_state_dict(zeroed)
        norms = FilterNorm()(structure.net, structure.segments, ())
        pruned = take(structure, smaller, norms)
        side = max(16, getattr(net, "min_size", 1))
        image = torch.rand(1, 3, side, side, generator=random)
        with torch.no_grad():
            expected, found = structure.net(image), pruned(image)
        assert (found - expected).abs().max() <= 1e-6 * max(1.0, float(expected.abs().max()))
        assert len(pruned.state_dict()) == len(zeroed)
        assert sum(map(torch.numel, pruned.parameters())) < sum(map(torch.numel, net.parameters()))
