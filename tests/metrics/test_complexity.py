"""Counters against arithmetic by hand, fvcore, and torch's own flop counter."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from esr.errors import UserError
from esr.metrics.complexity import COUNTERS, complexity


class Everything(nn.Module):
    """What counters disagree about: see each line's comment in `forward`."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.shared = nn.Conv2d(8, 8, 1, bias=False)
        self.act = nn.PReLU()
        self.norm = nn.BatchNorm2d(8)
        self.layer_norm = nn.LayerNorm(8)
        self.linear = nn.Linear(8, 12)
        self.back = nn.Linear(12, 8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.kernel = nn.Parameter(torch.randn(6, 1, 3, 3))
        self.unused = nn.Conv2d(3, 5, 3)
        self.register_parameter("gain", nn.Parameter(torch.ones(1), requires_grad=False))

    def forward(self, x):
        x = self.norm(self.act(self.head(x)))
        x = self.shared(F.gelu(self.shared(x)))  # one module, two calls
        nhwc = self.layer_norm(x.permute(0, 2, 3, 1))
        nhwc = self.back(self.linear(nhwc))  # Linear on NHWC
        tokens = nhwc.flatten(1, 2)
        weights = torch.softmax(tokens.transpose(1, 2) @ tokens, -1)  # channel attention
        x = (tokens @ weights).transpose(1, 2).unflatten(2, x.shape[2:])
        x = F.conv2d(self.up(x) * self.gain, self.kernel, padding=1, groups=6)  # functional
        pooled = F.adaptive_avg_pool2d(x, 1) + x.mean()
        return F.interpolate(x + pooled, scale_factor=2, mode="bilinear")


H, W = 20, 12
HEAD, SHARED, UP = 3 * 8 * 9 * H * W, 8 * 8 * H * W, 8 * 6 * 4 // 2 * 4 * H * W


def test_the_challenge_counter_by_hand():
    found = complexity(Everything(), (H, W))
    act, norm, linear = 8 * H * W, 2 * 8 * H * W, 2 * H * H
    assert found.flops == HEAD + 2 * SHARED + UP + act + norm + linear
    assert found.acts == (8 + 8 + 8) * H * W + 6 * 4 * H * W
    assert found.convs == 4
    assert found.counter == "ntire2022"
    assert found.size == (H, W)


def test_tokens_are_counted_as_the_challenge_did():
    net = nn.Sequential(nn.Flatten(2), nn.Linear(H * W, 4))  # (1, 3, 240) -> (1, 3, 4)
    assert complexity(net, (H, W)).flops == 3 * 3
    assert complexity(net, (H, W), "exact").flops == 3 * H * W * 4


def test_exact_equals_torch_flop_counter():
    net = Everything().eval()
    found = complexity(net, (H, W), "exact")
    with FlopCounterMode(display=False) as torch_counter, torch.no_grad():
        net(torch.zeros(1, 3, H, W))
    # torch takes the transposed convolution by its output; a multiply-accumulate is per input.
    transposed = torch_counter.get_flop_counts()["Everything.up"]
    total = torch_counter.get_total_flops() - sum(transposed.values()) + 2 * UP // 4
    assert found.flops == total / 2
    attention = 2 * 8 * 8 * H * W
    linear = 2 * 8 * 12 * H * W
    functional = 6 * 9 * 4 * H * W
    assert found.flops == HEAD + 2 * SHARED + UP // 4 + linear + attention + functional
    assert found.convs == 5


@pytest.mark.parametrize("counter", COUNTERS)
def test_inference_mode_changes_nothing(counter):
    net = Everything()
    with torch.inference_mode():
        inside = complexity(net, (H, W), counter)
    assert inside == complexity(net, (H, W), counter)


def test_fvcore_is_reproduced():
    fvcore = pytest.importorskip("fvcore.nn")
    net = Everything().eval()
    reference = fvcore.FlopCountAnalysis(net, torch.zeros(1, 3, H, W))
    reference.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert complexity(net, (H, W), "fvcore").flops == reference.total()


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


def test_fused_attention():
    assert complexity(Attention(), (H, W), "exact").flops == 3 * 2 * H * H * W
    assert complexity(Attention(), (H, W), "fvcore").flops == 0


def test_unused_parameters_are_counted_and_shown_apart():
    found = complexity(Everything(), (H, W))
    assert found.params == sum(p.numel() for p in Everything().parameters())
    assert found.unused == ("unused.weight", "unused.bias")
    assert found.unused_params == 5 * 3 * 9 + 5


def test_the_network_is_left_as_it_was():
    net = Everything().train()
    net.norm.eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    complexity(net, (H, W))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training
    assert not net.norm.training
    assert not any(module._forward_hooks for module in net.modules())


class Keeping(nn.Module):
    """Changes itself in `forward` in all the ways that are seen, and cannot be deep-copied."""

    def __init__(self, needs_values: bool):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.mean = torch.rand(1, 3, 1, 1)
        self.register_buffer("total", torch.zeros(()))
        self.count = torch.zeros(())
        self.cache = {"sizes": [], "masks": {}}
        self.lock = threading.Lock()
        self.history = self.conv.weight.sum()  # not a leaf of the graph
        self.needs_values = needs_values

    def forward(self, x):
        self.mean = self.mean.type_as(x)
        self.size = x.shape[-2:]
        self.cache["sizes"].append(self.size)
        self.cache["masks"][self.size] = torch.ones_like(x)
        self.count += 1
        self.total += 1
        if self.needs_values:
            assert x.sum().item() >= 0
        return self.conv(x - self.mean)


@pytest.mark.parametrize("needs_values", [False, True])
def test_a_network_that_keeps_what_it_met_is_left_as_it_was(needs_values):
    net = Keeping(needs_values)
    before, mean = dict(vars(net)), net.mean.clone()
    assert complexity(net, (H, W)).convs == 1
    assert vars(net) == before
    assert torch.equal(net.mean, mean)
    assert net.count == net.total == 0
    assert net.cache == {"sizes": [], "masks": {}}
    assert net(torch.rand(1, 3, H, W)).isfinite().all()


class NeedsValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x) if x.sum().item() == 0 else x


def test_a_network_that_needs_values_runs_for_real():
    assert complexity(NeedsValues(), (4, 4)).convs == 1


class Windows(nn.Module):
    def forward(self, x):
        return x.view(1, 3, -1, 48, x.shape[-1])


def test_a_size_that_does_not_fit_is_named_with_one_that_does():
    with pytest.raises(UserError, match=r"cannot take 256x256 .*240x240"):
        complexity(Windows())


def test_an_unknown_counter_lists_the_known():
    with pytest.raises(UserError, match=r"ntire2022.*fvcore.*exact"):
        complexity(Everything(), counter="thop")


def test_the_aliases_agree():
    figures = {complexity(Everything(), (H, W), name).flops for name in list(COUNTERS)[:4]}
    assert len(figures) == 1


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_weight_normalised_and_compiled_networks():
    net = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3, padding=1)))
    net.compile()
    found = complexity(net, (8, 8))
    assert found.flops == 3 * 4 * 9 * 64
    assert found.unused == ()
