import pytest
import torch
from torch import nn

from esr.errors import UserError
from esr.surgery.fuse import deploy_config, fusable, fuse


class Doubled(nn.Module):
    """A convolution applied twice over, merged into one with twice the weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return 2 * self.conv(x)

    def fuse(self):
        conv = nn.Conv2d(2, 2, 3, padding=1).to(self.conv.weight)
        conv.weight.data = 2 * self.conv.weight.data
        assert self.conv.bias is not None
        assert conv.bias is not None
        conv.bias.data = 2 * self.conv.bias.data
        return conv.requires_grad_(self.conv.weight.requires_grad)


class Unmergeable(nn.Module):
    def fuse(self):
        raise UserError("a ReLU lies between its convolutions")


class Folding(nn.Module):
    """A container whose own merge must meet its children already merged."""

    def __init__(self):
        super().__init__()
        self.inner = Doubled()

    def forward(self, x):
        return self.inner(x)

    def fuse(self):
        assert type(self.inner) is nn.Conv2d
        return self.inner


def test_a_fused_copy_is_equal_and_the_original_untouched():
    shared = Doubled()
    net = nn.Sequential(nn.Sequential(shared, nn.ReLU()), Folding(), shared).double().eval()
    for parameter in net[1].parameters():
        parameter.requires_grad_(False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    twin = fuse(net)
    x = torch.rand(1, 2, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(twin(x), net(x), rtol=0, atol=1e-14)
    assert fusable(net) == ["0.0", "1", "1.inner"]
    assert fusable(twin) == []
    assert isinstance(twin, nn.Sequential)
    assert twin[0][0] is twin[2], "a module in two places stays one module"
    assert not any(module.training for module in twin.modules())
    assert [p.requires_grad for p in twin.parameters()] == [True, True, False, False]
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


def test_fusing_twice_changes_nothing():
    once = fuse(nn.Sequential(Doubled(), Folding()))
    twice = fuse(once)
    assert all(
        torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True)
    )


def test_a_network_that_is_one_block():
    assert type(fuse(Doubled())) is nn.Conv2d


def test_a_child_called_fuse_is_not_a_merge_method():
    net = nn.Module()
    net.fuse = nn.Conv2d(2, 2, 1)
    assert fusable(net) == []
    assert "fuse.weight" in fuse(net).state_dict()


def test_what_cannot_be_merged_is_named():
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ModuleDict({"body": Unmergeable()}))
    with pytest.raises(UserError, match=r"'1\.body' \(Unmergeable\): a ReLU lies between"):
        fuse(net)


def test_deploy_config_drops_what_only_training_needs():
    config = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "conv": {"_target_": "x.Y"}}
    assert deploy_config(config) == {"_target_": "torch.nn.Conv2d", "in_channels": 3}
