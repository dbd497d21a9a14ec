"""The resize is MATLAB's: by MATLAB's own images, and by its formula written out plainly."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esr.data.images import read_rgb
from esr.data.resize import imresize, resize
from esr.errors import UserError

SCALES = [Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), Fraction(2), Fraction(3), Fraction(5, 3)]
images = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 21), st.integers(1, 17), st.sampled_from([1, 3]))
)


def test_all_x4_images_of_set5_and_set14_are_reproduced_bit_for_bit(shared):
    files = [f for name in ("Set5", "Set14") for f in (shared / "data" / name / "HR").glob("*.png")]
    assert len(files) == 19
    for file in files:
        hr = read_rgb(file)
        hr = hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4]
        lr = read_rgb(file.parents[1] / "LR_bicubic" / "X4" / f"{file.stem}x4.png")
        np.testing.assert_array_equal(imresize(hr, 1 / 4), lr, err_msg=file.name)


@settings(max_examples=60, deadline=None)
@given(images, st.sampled_from(SCALES))
def test_equals_the_formula(image, scale):
    np.testing.assert_array_equal(imresize(image, scale), plainly(image, scale))


@settings(max_examples=30, deadline=None)
@given(images, st.sampled_from(SCALES))
def test_size_constants_and_batches(image, scale):
    out = imresize(image, float(scale))
    height, width, channels = image.shape
    assert out.shape == (math.ceil(height * scale), math.ceil(width * scale), channels)
    flat = np.full_like(image, 77)
    assert (imresize(flat, scale) == 77).all()
    planes = torch.from_numpy(image.transpose(2, 0, 1).copy())
    both = resize(torch.stack([planes, planes.flip(0)]), scale)
    np.testing.assert_array_equal(both[0].numpy().transpose(1, 2, 0), out)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, st.just((12, 24, 1))), st.sampled_from(SCALES[:5]))
def test_mirrored_images_have_mirrored_results(image, scale):
    np.testing.assert_array_equal(
        imresize(image[::-1, ::-1], scale), imresize(image, scale)[::-1, ::-1]
    )


def test_floats_are_neither_rounded_nor_clipped():
    x = torch.tensor([[0.0, 1.0] * 8] * 16, dtype=torch.float64)
    up = resize(x[None, None], 2)
    assert up.dtype == torch.float64
    assert up.min() < 0 < 1 < up.max()
    eight = imresize((x.numpy() * 255).astype(np.uint8), 2)
    assert eight.min() == 0
    assert eight.max() == 255


def test_refuses_other_types_and_scales():
    with pytest.raises(UserError, match="uint8"):
        imresize(np.zeros((4, 4, 3), dtype=np.float32), 0.5)
    with pytest.raises(UserError, match="positive"):
        imresize(np.zeros((4, 4, 3), dtype=np.uint8), 0)


def plainly(image: np.ndarray, scale: Fraction) -> np.ndarray:
    """MATLAB's algorithm, one output pixel at a time, in exact fractions."""
    once = np.stack([lines(image[:, i], scale) for i in range(image.shape[1])], axis=1)
    return np.stack([lines(once[i], scale) for i in range(once.shape[0])], axis=0)


def lines(line: np.ndarray, scale: Fraction) -> np.ndarray:
    size = len(line)
    shrink = min(scale, Fraction(1))
    out = []
    for i in range(1, math.ceil(size * scale) + 1):
        centre = i / scale + Fraction(1, 2) * (1 - 1 / scale)
        reach = math.ceil(2 / shrink) + 1
        first = math.floor(centre) - reach
        weights = {j: cubic(shrink * (centre - j)) for j in range(first, first + 2 * reach + 2)}
        total = sum(weights.values())
        value = [Fraction(0)] * line.shape[1]
        for j, weight in weights.items():
            k = (j - 1) % (2 * size)
            k = k if k < size else 2 * size - 1 - k
            value = [v + weight / total * int(p) for v, p in zip(value, line[k], strict=True)]
        out.append([min(255, max(0, math.floor(v + Fraction(1, 2)))) for v in value])
    return np.array(out, dtype=np.uint8)


def cubic(x: Fraction) -> Fraction:
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    if x <= 2:
        return Fraction(-1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2
    return Fraction(0)
