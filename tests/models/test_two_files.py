"""Adding a network takes two files, few lines each: the class and its yaml."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esr.config import build, compose, plain
from esr.models.network import Network
from esr.surgery.fuse import deploy_config, fusable, fuse
from esr.surgery.prune import Prune

OTHER_STEP_OF_RFDN = '''
import torch
from esr.models.parts.distillation import RFDB
from esr.models.rfdn import RFDN

class LateBlock(RFDB):
    """An RFDB that activates before the skip of a stage."""

    def stage(self, i: int, x: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
        return self.act(self.refine[i](x)) + x

class Mine(RFDN):
    """RFDN of such blocks."""

    block = LateBlock
'''

OTHER_GATE_IN_RFDN = '''
from torch import nn
from esr.models.arguments import Channels, ConvFactory, DataRange, Depth, Scale
from esr.models.outlines import FusionTrunk
from esr.models.parts.distillation import RFDB
from esr.models.parts.gates import PixelAttention

class Mine(FusionTrunk):
    """RFDN with pixel attention, and its own arguments."""

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 50,
        depth: Depth = 4,
        distilled: Channels = 25,  # kept at each stage
        conv: ConvFactory = nn.Conv2d,
    ):
        blocks = (RFDB(width, distilled, PixelAttention(width), conv=conv) for _ in range(depth))
        super().__init__(scale, data_range, width, blocks)
'''

OTHER_ATTENTION_IN_SPAN = '''
import torch
from esr.models.span import SPAB, SPAN

class SoftBlock(SPAB):
    """A SPAB with another odd function."""

    def gate(self, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(y) / 2

class Mine(SPAN):
    """SPAN of such blocks."""

    block = SoftBlock
'''

YAML = """
_target_: {module}.Mine
scale: ${{scale}}
width: 8
depth: 2
"""

KINDS = {
    "rfdn_step": (OTHER_STEP_OF_RFDN, {"distilled": 4}),
    "rfdn_gate": (OTHER_GATE_IN_RFDN, {"distilled": 4}),
    "span_attention": (OTHER_ATTENTION_IN_SPAN, {"gain": 1}),
}


@pytest.fixture(params=KINDS)
def model(request, tmp_path: Path, monkeypatch):
    """The network's configuration once its two files are there, from what is typed besides."""
    name = request.param
    source, values = KINDS[name]
    (tmp_path / f"mine_{name}.py").write_text(source)
    (tmp_path / "model").mkdir()
    yaml = YAML.format(module=f"mine_{name}") + "".join(f"{k}: {v}\n" for k, v in values.items())
    (tmp_path / "model" / "mine.yaml").write_text(yaml)
    monkeypatch.syspath_prepend(tmp_path)

    def composed(*overrides: str) -> dict[str, Any]:
        found = compose("train", [f"hydra.searchpath=[{tmp_path}]", "model=mine", *overrides])
        return plain(found.model)

    return composed


@pytest.mark.parametrize("source", [source for source, _ in KINDS.values()], ids=list(KINDS))
def test_a_new_network_is_fifteen_lines_beside_its_imports(source: str) -> None:
    lines = [line for line in source.splitlines() if line.strip()]
    assert sum(not line.startswith(("import", "from")) for line in lines) <= 15


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_is_built_at_every_scale(model, scale: int) -> None:
    net = build(model(f"scale={scale}")).eval()
    assert isinstance(net, Network)
    height, width = net.min_size, net.min_size + 3
    with torch.no_grad():
        assert net(torch.rand(1, 3, height, width)).shape == (1, 3, scale * height, scale * width)


def test_it_learns_in_a_step(model) -> None:
    torch.manual_seed(0)
    net = build(model())
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)
    low, high = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 64, 64)
    losses = []
    for _ in range(2):
        loss = (net(low) - high).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


def test_its_training_form_merges_into_the_plain_network(model) -> None:
    torch.manual_seed(0)
    config = model("conv=ecb")
    net = build(config).double().eval()
    merged, deployed = fuse(net), build(deploy_config(config))
    assert fusable(net)
    assert merged.state_dict().keys() == deployed.state_dict().keys()
    x = torch.rand(1, 3, 20, 20).double()
    with torch.no_grad():
        torch.testing.assert_close(merged(x), net(x), rtol=0, atol=1e-9)


def test_its_arguments_are_found_and_pruned(model) -> None:
    pytest.importorskip("torch_pruning")
    config = model()
    net: nn.Module = build(config)
    pruned, smaller = Prune(widths={"width": 6})(net, config)
    assert smaller["width"] == 6
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in net.parameters())
