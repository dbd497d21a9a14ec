"""Block removal: the block that does nothing goes, and its absence is not noticed."""

import pytest
import torch

from esr.errors import UserError
from esr.models.rfdn import RFDN
from esr.models.rlfn import RLFN
from esr.surgery.depth import DropBlocks

PATCHES = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
RFDN_CONFIG = {
    "_target_": "esr.models.rfdn.RFDN",
    "width": 8,
    "distilled": 4,
    "esa_width": 4,
    "depth": 3,
}


def test_a_block_that_nobody_reads_goes():
    torch.manual_seed(0)
    net = RFDN(width=8, distilled=4, esa_width=4, depth=3).eval()
    with torch.no_grad():  # the last block's output reaches the fusion only, and that ignores it
        net.fuse.weight[:, 16:] = 0
    data = [{"lr": PATCHES, "hr": net(PATCHES).detach()}]
    smaller, config = DropBlocks(1, patches=2)(net, RFDN_CONFIG, data)
    assert config["depth"] == 2
    with torch.no_grad():
        assert (smaller(PATCHES) - net(PATCHES)).abs().max() <= 1e-6


def test_a_middle_block_leaves_the_others_in_order():
    torch.manual_seed(0)
    net = RLFN(width=8, mid=8, depth=3, esa_width=4).eval()
    config = {"_target_": "esr.models.rlfn.RLFN", "width": 8, "mid": 8, "depth": 3, "esa_width": 4}
    reference = RLFN(width=8, mid=8, depth=2, esa_width=4).eval()
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("blocks.1.")}
    reference.load_state_dict({k.replace("blocks.2.", "blocks.1."): v for k, v in state.items()})
    data = [{"lr": PATCHES, "hr": reference(PATCHES).detach()}]
    smaller, found = DropBlocks(1, patches=2)(net, config, data)
    assert found["depth"] == 2
    with torch.no_grad():
        assert torch.equal(smaller(PATCHES), reference(PATCHES))


@pytest.mark.parametrize(
    ("options", "config", "message"),
    [
        ({"blocks": 3}, RFDN_CONFIG, "has to stay"),
        ({"argument": "layers"}, RFDN_CONFIG, "no number of blocks called layers"),
    ],
)
def test_mistakes_are_explained(options, config, message):
    net = RFDN(width=8, distilled=4, esa_width=4, depth=3)
    data = [{"lr": PATCHES, "hr": torch.rand(2, 3, 80, 80)}]
    with pytest.raises(UserError, match=message):
        DropBlocks(**options, patches=2)(net, config, data)


def test_a_negative_number_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        DropBlocks(0)
