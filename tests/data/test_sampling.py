"""Sample n is a function of (seed, n), and of nothing else."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.data.sampling import PatchSampler, Schedule, probabilities
from esr.errors import UserError

FIELDS = ("image", "row", "column", "code", "channels", "seed")
sizes = st.lists(st.tuples(st.integers(16, 400), st.integers(16, 400)), min_size=1, max_size=9)
seeds = st.integers(0, 2**64 - 1)
firsts = st.integers(0, 2**48)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, firsts, st.integers(1, 40), st.integers(1, 39))
def test_samples_do_not_depend_on_how_they_are_asked_for(sizes, seed, first, count, cut):
    sampler = PatchSampler(np.array(sizes), np.ones(len(sizes)), seed)
    whole = sampler.draw(first, count, 16)
    cut = min(cut, count - 1)
    parts = [sampler.draw(first + cut, count - cut, 16), sampler.draw(first, cut, 16)]
    for field in FIELDS:
        joined = np.concatenate([getattr(part, field) for part in reversed(parts)])
        np.testing.assert_array_equal(getattr(whole, field), joined)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, firsts, st.integers(1, 16))
def test_patches_lie_inside_their_images(sizes, seed, first, patch):
    sampler = PatchSampler(np.array(sizes), np.ones(len(sizes)), seed)
    draws = sampler.draw(first, 50, patch)
    limit = np.array(sizes)[draws.image]
    assert (draws.row >= 0).all()
    assert (draws.column >= 0).all()
    assert (draws.row + patch <= limit[:, 0]).all()
    assert (draws.column + patch <= limit[:, 1]).all()
    assert set(draws.code) <= set(range(8))
    assert set(draws.channels) <= set(range(6))


def test_the_stream_never_changes_between_versions():
    """Runs stay comparable: the first 10000 samples of seed 0 are these, for ever."""
    sampler = PatchSampler(np.array([[64, 80], [100, 30]]), np.array([2.0, 1.0]), 0)
    draws = sampler.draw(0, 10_000, 16)
    digest = hashlib.sha256()
    for field in FIELDS:
        digest.update(getattr(draws, field).astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "d808803221dd4e31"


def test_everything_is_drawn_about_equally_often():
    sampler = PatchSampler(np.array([[20, 24]]), np.ones(1), 3)
    draws = sampler.draw(0, 40_000, 16)
    for values, count in (
        (draws.row, 5),
        (draws.column, 9),
        (draws.code, 8),
        (draws.channels, 6),
        (draws.code * 6 + draws.channels, 48),
    ):
        expected = 40_000 / count
        found = np.bincount(values, minlength=count)
        assert len(found) == count
        assert abs(found - expected).max() < 5 * expected**0.5


def test_images_are_drawn_by_area_or_uniformly_and_sets_by_weight():
    sizes = np.array([[10, 10], [10, 30], [20, 20]])
    by_area = probabilities(sizes, [2, 1], [None, None], "area")
    np.testing.assert_allclose(by_area, [1 / 8, 3 / 8, 4 / 8])
    by_image = probabilities(sizes, [2, 1], [None, None], "image")
    np.testing.assert_allclose(by_image, [1 / 3] * 3)
    weighted = probabilities(sizes, [2, 1], [1.0, 3.0], "area")
    np.testing.assert_allclose(weighted, [1 / 16, 3 / 16, 3 / 4])
    drawn = PatchSampler(sizes, weighted, 1).draw(0, 20_000, 10).image
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, weighted, atol=0.01)


@pytest.mark.parametrize("weights", [[1.0, None], [-1.0, 2.0], [0.0, 0.0]])
def test_senseless_weights_are_refused(weights):
    with pytest.raises(UserError, match="weight"):
        probabilities(np.array([[10, 10], [10, 10]]), [1, 1], weights, "area")


def test_schedules_count_every_sample_once():
    schedule = Schedule({0: 8, 10: 4, 15: 6}, {0: 32, 12: 64}, scale=4)
    following = 0
    for number in range(30):
        first, size, patch = schedule.batch(number)
        assert first == following
        following += size
        assert size == (8 if number < 10 else 4 if number < 15 else 6)
        assert patch == (32 if number < 12 else 64)


def test_schedules_are_by_optimiser_step():
    schedule = Schedule({0: 8, 10: 4}, 32, scale=4, accumulate=3)
    assert [schedule.batch(n)[1] for n in (29, 30)] == [8, 4]


@pytest.mark.parametrize(("batch", "patch"), [(0, 32), ({5: 8}, 32), (8, 30), (8, {0: 32, 5: 33})])
def test_senseless_sizes_are_refused(batch, patch):
    with pytest.raises(UserError, match=r"data\.(batch|patch)_size"):
        Schedule(batch, patch, scale=4)
