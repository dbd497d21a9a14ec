"""Augmentations are exact, device-side ones are functions of the samples' seeds."""

import numpy as np
import pytest
import torch

from esr.data.augment import (
    PERMUTATIONS,
    Finishing,
    cutblur,
    dihedral,
    finished,
    mixup,
    permute_channels,
    to_float,
)
from esr.data.degradation import Degradation, hash_normal, hash_uniform
from esr.data.resize import resize
from esr.errors import UserError


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_the_eight_codes_are_the_eight_symmetries_of_the_square():
    x = torch.arange(25).view(1, 5, 5, 1)
    found = {tuple(dihedral(x, torch.tensor([code])).flatten().tolist()) for code in range(8)}
    square = x[0, :, :, 0]
    rotations = [torch.rot90(square, turns) for turns in range(4)]
    expected = {tuple(y.flatten().tolist()) for r in rotations for y in (r, r.T)}
    assert found == expected
    assert len(found) == 8


def test_lr_and_hr_turn_together():
    """Turning and reducing commute, so a turned pair is still a pair."""
    hr = (noise(8, 24, 24, 3) * 255).to(torch.uint8)
    codes = torch.arange(8)

    def reduced(x: torch.Tensor) -> torch.Tensor:
        return resize(x.permute(0, 3, 1, 2).contiguous(), 1 / 4).permute(0, 2, 3, 1)

    turned_first = reduced(dihedral(hr, codes)).to(torch.int16)
    reduced_first = dihedral(reduced(hr), codes).to(torch.int16)
    # Rows are rounded before columns, so a transposed pair may differ by one level.
    assert (turned_first - reduced_first)[:4].abs().max() == 0
    assert (turned_first - reduced_first).abs().max() <= 1


def test_colours_are_permuted():
    x = torch.arange(3).expand(6, 2, 2, 3)
    found = permute_channels(x, torch.arange(6))[:, 0, 0].tolist()
    assert sorted(map(tuple, found)) == sorted(PERMUTATIONS)


def test_to_float_is_rgb_nchw_in_0_1():
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    torch.testing.assert_close(to_float(x).flatten(), torch.tensor([0.0, 0.2, 1.0]))


def test_patch_by_patch_and_all_at_once_are_the_same():
    x = (noise(48, 10, 10, 3) * 255).to(torch.uint8)
    code, channels = torch.arange(48) % 8, torch.arange(48) // 8
    whole = to_float(permute_channels(dihedral(x, code), channels))
    torch.testing.assert_close(finished(x, code, channels), whole, rtol=0, atol=0)
    plain = finished(x, code, None)
    torch.testing.assert_close(plain, to_float(dihedral(x, code)), rtol=0, atol=0)
    assert plain.is_contiguous()


def test_hashes_look_uniform_and_normal():
    seeds = torch.from_numpy(np.arange(-500, 500, dtype=np.int64))
    u = hash_uniform(seeds, 1000).double()
    assert 0 <= u.min() < 0.001
    assert 0.999 < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.002
    assert abs(u.std() - 12**-0.5) < 0.002
    assert abs(u[:, 1:] * u[:, :-1]).mean() == pytest.approx(0.25, abs=0.002)
    z = hash_normal(seeds, torch.Size([40, 25]))
    assert abs(z.mean()) < 0.005
    assert abs(z.std() - 1) < 0.005
    assert z.isfinite().all()


def test_a_degraded_patch_depends_on_its_seed_alone():
    hr = noise(6, 3, 64, 64)
    lr = resize(hr, 1 / 4).clamp(0, 1)
    seeds = torch.tensor([3, 1, 4, -1, 5, 9])
    degrade = Degradation()
    whole = degrade(lr, hr, seeds)
    assert whole.shape == lr.shape
    assert 0 <= whole.min() <= whole.max() <= 1
    assert ((whole - lr).abs().amax(dim=(1, 2, 3)) > 0.01).all()
    for part in (slice(0, 2), slice(2, 3), slice(3, 6)):
        torch.testing.assert_close(degrade(lr[part], hr[part], seeds[part]), whole[part])


def test_each_degradation_does_its_own():
    hr = noise(4, 3, 64, 64)
    lr = resize(hr, 1 / 4).clamp(0, 1)
    seeds = torch.arange(4)
    off = {"blur": (0, 0), "noise": (0, 0), "jpeg": None}
    torch.testing.assert_close(Degradation(**off)(lr, hr, seeds), lr)
    blurred = Degradation(**{**off, "blur": (2, 2)})(lr, hr, seeds)
    assert blurred.std() < 0.8 * lr.std()
    noisy = Degradation(**{**off, "noise": (10, 10)})(lr.clamp(0.3, 0.7), hr, seeds)
    assert (noisy - lr.clamp(0.3, 0.7)).std().item() == pytest.approx(10 / 255, rel=0.1)
    fine, coarse = (
        (Degradation(**{**off, "jpeg": (q, q)})(lr, hr, seeds) - lr).abs().mean() for q in (95, 20)
    )
    assert 0 < fine < coarse
    never = Degradation(probability=0)(lr, hr, seeds)
    torch.testing.assert_close(never, lr)


@pytest.mark.parametrize("bad", [{"blur": (3, 1)}, {"jpeg": (0, 50)}, {"probability": 2}])
def test_senseless_degradations_are_refused(bad):
    with pytest.raises(UserError, match=r"data\.degradation"):
        Degradation(**bad)


def test_mixup_blends_neighbours_and_keeps_pairs():
    hr = noise(4, 3, 16, 16)
    lr = resize(hr, 1 / 4)
    draws = torch.tensor([[0.1, 0.0], [0.9, 0.5], [0.9, 0.2], [0.1, 0.2]])
    mixed_lr, mixed_hr = mixup(lr, hr, draws, 0.5)
    torch.testing.assert_close(mixed_hr[0], 0.5 * hr[0] + 0.5 * hr[1])
    torch.testing.assert_close(mixed_hr[1], 0.75 * hr[1] + 0.25 * hr[0])
    torch.testing.assert_close(mixed_hr[2:], hr[2:])  # decided by the pair's first
    torch.testing.assert_close(resize(mixed_hr, 1 / 4), mixed_lr)  # linear, so still a pair
    with pytest.raises(UserError, match="odd"):
        mixup(lr[:3], hr[:3], draws[:3], 0.5)


def test_cutblur_swaps_a_box_for_clean_lr():
    hr = noise(64, 3, 64, 64)
    clean = resize(hr, 1 / 4).clamp(0, 1)
    degraded = torch.zeros_like(clean)
    draws = hash_uniform(torch.arange(64), 6)
    out = cutblur(degraded, hr, draws, 1.0)
    replaced = (out == clean).all(dim=1)
    assert ((out == degraded).all(dim=1) | replaced).all()
    share = replaced.float().mean(dim=(1, 2))
    assert 0 < share.min() < 0.5 < share.max() < 1
    torch.testing.assert_close(cutblur(degraded, hr, draws, 0.0), degraded)


def test_cutblur_without_degradation_is_refused_because_it_would_change_nothing():
    with pytest.raises(UserError, match="degradation"):
        Finishing(None, cutblur=0.5)
