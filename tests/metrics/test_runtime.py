"""Timing protocols: what each promises, and that nothing global is changed by them."""

import time
from collections import UserList

import pytest
import torch
from torch import nn

from esr.errors import UserError
from esr.metrics import memory, runtime
from esr.metrics.hardware import sensors


class Sleeping(nn.Module):
    """Takes a known time: the first call longer, as a library that loads."""

    def __init__(self, ms: float, first_ms: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.ms, self.first_ms = ms, first_ms
        # No plain list: what a network notes in one is taken back after a measurement.
        self.states: UserList[tuple[bool, bool, bool]] = UserList()

    def forward(self, x):
        extra = self.first_ms if not self.states else 0.0
        self.states.append(
            (torch.is_inference_mode_enabled(), self.weight.requires_grad, self.training)
        )
        time.sleep((self.ms + extra) / 1000)
        return x * self.weight


IMAGES = [torch.rand(1, 3, 8, 8 + i) for i in range(4)]


def test_the_challenge_counts_the_first_image_and_runs_each_once():
    net = Sleeping(2, first_ms=40)
    found = runtime.measure(net, IMAGES, "cpu", "ntire2022")
    assert len(net.states) == len(IMAGES)
    assert found.ms >= (40 + 4 * 2) / 4
    assert found.warmed_up is False
    assert found.passes == 1
    assert found.spread_ms is None
    # no inference mode: gradients are off because no parameter asks for them
    assert net.states == [(False, False, False)] * len(IMAGES)
    assert net.weight.requires_grad


def test_stable_warms_up_and_takes_the_median():
    net = Sleeping(2, first_ms=60)
    found = runtime.measure(net, IMAGES[:1], "cpu", "stable", passes=5)
    assert 2 <= found.ms < 30
    assert found.warmed_up is True
    assert found.passes == 5
    assert found.spread_ms is not None
    assert all(state[0] and not state[2] for state in net.states)


@pytest.mark.parametrize("protocol", runtime.PROTOCOLS)
def test_the_ratio_to_the_reference(protocol):
    net, reference = Sleeping(20, first_ms=50), Sleeping(10)
    found = runtime.measure(net, IMAGES, "cpu", protocol, reference, passes=3)
    assert found.ratio == pytest.approx(2, rel=0.4)
    assert 10 <= found.reference_ms < 20
    assert len(net.states) == len(reference.states)


@pytest.mark.parametrize("ms", [5, 200])
def test_stable_keeps_to_its_bound(ms):
    start = time.perf_counter()
    found = runtime.measure(Sleeping(ms), IMAGES[:1], "cpu", "stable", seconds=0.3, passes=10**6)
    assert time.perf_counter() - start < 0.6
    assert found.warmed_up is (ms == 5)
    assert found.passes >= 1


def test_a_cpu_says_that_it_is_one():
    found = runtime.measure(Sleeping(0), IMAGES, "cpu")
    assert found.clock == "wall clock"
    assert found.threads == torch.get_num_threads()
    assert found.before == {} == sensors("cpu")
    assert found.sizes[1] == (8, 9)
    assert memory.measure(Sleeping(0), IMAGES, "cpu") is None


def test_modes_and_flags_are_put_back():
    net = Sleeping(0).train()
    frozen = Sleeping(0).eval().requires_grad_(False)
    torch.backends.cudnn.benchmark = True
    for protocol in runtime.PROTOCOLS:
        runtime.measure(net, IMAGES, "cpu", protocol, frozen, passes=1)
        assert net.training
        assert net.weight.requires_grad
        assert not frozen.training
        assert not frozen.weight.requires_grad
        assert torch.backends.cudnn.benchmark
        assert torch.is_grad_enabled()
    torch.backends.cudnn.benchmark = False


class Moving(nn.Module):
    """Keeps a plain tensor, which no `.to()` moves, and moves it itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.gain = torch.full((1, 3, 1, 1), 2.0, dtype=torch.float64)

    def forward(self, x):
        self.gain = self.gain.type_as(x)
        return self.conv(x) * self.gain


@pytest.mark.parametrize("protocol", runtime.PROTOCOLS)
def test_a_network_can_be_trained_after_it_was_timed(protocol):
    net = Moving()
    gain = net.gain
    runtime.measure(net, IMAGES, "cpu", protocol, passes=1)
    assert net.gain is gain
    net(IMAGES[0]).sum().backward()  # a tensor of inference mode would refuse


def test_an_unknown_protocol_lists_the_known():
    with pytest.raises(UserError, match=r"ntire2022, stable"):
        runtime.measure(Sleeping(0), IMAGES, "cpu", "ntire2030")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_memory_on_cuda_leaves_the_recorded_peak():
    device = torch.device("cuda")
    net = nn.Conv2d(3, 64, 3, padding=1).to(device)
    torch.empty(512 * 2**20, dtype=torch.uint8, device=device)  # a peak of earlier
    peak = torch.cuda.max_memory_allocated(device)
    found = memory.measure(net, [torch.rand(1, 3, 256, 256)], device)
    assert found is not None
    output = 64 * 256 * 256 * 4 / 2**20
    assert output <= found.above < found.peak < output * 4
    assert torch.cuda.max_memory_allocated(device) == pytest.approx(peak, rel=0.01)
