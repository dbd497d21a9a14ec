"""Fidelity against an independent float64 implementation in numpy and against scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from esr.errors import UserError
from esr.metrics.fidelity import SCORES, MeanScore, psnr_rgb, psnr_y, ssim_y


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(3, 3, 40, 53, generator=generator)
    hr = torch.nn.functional.avg_pool2d(hr, 5, 1, 2)
    # Beyond [0, 1] on purpose: the clamping is part of the metric.
    sr = hr * 1.6 - 0.2 + 0.05 * torch.randn(hr.shape, generator=generator)
    return sr, hr


def levels(image: torch.Tensor, border: int) -> np.ndarray:
    array = np.clip(image.numpy().astype(np.float32), 0, 1) * np.float32(255)
    array = np.round(array).astype(np.uint8).transpose(1, 2, 0)
    height, width = array.shape[:2]
    return array[border : height - border, border : width - border].astype(np.float64)


def numpy_luma(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def numpy_psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(20 * np.log10(255 / np.sqrt(np.mean((a - b) ** 2))))


@pytest.mark.parametrize("border", [0, 3, 4])
def test_psnr_equals_numpy(pair, border):
    sr, hr = pair
    for i in range(len(sr)):
        a, b = levels(sr[i], border), levels(hr[i], border)
        assert psnr_rgb(sr, hr, border)[i].item() == pytest.approx(numpy_psnr(a, b), abs=1e-9)
        expected = numpy_psnr(numpy_luma(a), numpy_luma(b))
        assert psnr_y(sr, hr, border)[i].item() == pytest.approx(expected, abs=1e-9)


def test_ssim_equals_scikit_image_in_the_valid_region(pair):
    sr, hr = pair
    for i in range(len(sr)):
        a, b = numpy_luma(levels(sr[i], 4)), numpy_luma(levels(hr[i], 4))
        _, full = structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5, truncate=3.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        expected = full[5:-5, 5:-5].mean()
        assert ssim_y(sr, hr, 4)[i].item() == pytest.approx(expected, abs=1e-9)


def test_equal_images_are_infinitely_good():
    image = torch.rand(1, 3, 24, 24)
    assert psnr_rgb(image, image, 4).item() == float("inf")
    assert ssim_y(image, image, 4).item() == pytest.approx(1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_never_a_score(pair, value):
    sr, hr = pair[0].clone(), pair[1]
    sr[1, 0, 20, 20] = value
    for score in (psnr_rgb, psnr_y, ssim_y):
        assert score(sr, hr, 4).isnan().tolist() == [False, True, False]


def test_half_precision_output_is_scored_in_full_precision(pair):
    sr, hr = pair
    expected = psnr_rgb(sr.half().float(), hr, 4)
    assert torch.equal(psnr_rgb(sr.half(), hr, 4), expected)


def test_mean_is_per_image_and_independent_of_batches(pair):
    sr, hr = pair
    means = {}
    for key, score in SCORES.items():
        metric = MeanScore()
        metric.update(score(sr[:1], hr[:1], 4))
        metric.update(score(sr[1:], hr[1:], 4))
        means[key] = metric.compute().item()
        assert means[key] == pytest.approx(score(sr, hr, 4).mean().item(), abs=1e-12)
    pooled = numpy_psnr(
        np.concatenate([levels(x, 4) for x in sr]), np.concatenate([levels(x, 4) for x in hr])
    )
    assert abs(means["psnr_rgb"] - pooled) > 1e-3


def test_images_that_a_sampler_repeated_do_not_count(pair):
    sr, hr = pair
    metric = MeanScore()
    metric.update(psnr_rgb(sr, hr, 4), keep=torch.tensor([True, False, True]))
    expected = psnr_rgb(sr[[0, 2]], hr[[0, 2]], 4).mean()
    assert metric.compute().item() == pytest.approx(expected.item(), abs=1e-12)


def test_sums_stay_float64_when_the_network_is_cast(pair):
    metric = MeanScore().to("cpu")
    torch.nn.ModuleList([metric]).half()
    metric.update(psnr_rgb(*pair, 4))
    assert metric.compute().dtype == torch.float64
    assert metric.compute().item() == pytest.approx(psnr_rgb(*pair, 4).mean().item(), abs=1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method.*was called before")
def test_no_score_and_no_finite_score_are_nan():
    assert MeanScore().compute().isnan()
    metric = MeanScore(alone=True)
    metric.update(torch.tensor([30.0, torch.nan], dtype=torch.float64))
    assert metric.compute().isnan()


@pytest.mark.parametrize("shape", [(1, 3, 40, 52), (1, 3, 8, 8)])
def test_bad_shapes_are_named(pair, shape):
    image = torch.zeros(shape)
    with pytest.raises(UserError, match=r"shape|border"):
        psnr_rgb(image, image if shape[-1] == 8 else pair[1][:1], 4)


def test_ssim_names_the_size_it_needs():
    image = torch.zeros(1, 3, 18, 40)
    with pytest.raises(UserError, match="11x11"):
        ssim_y(image, image, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gpu_and_cpu_agree(pair):
    sr, hr = pair
    for score in (psnr_rgb, psnr_y, ssim_y):
        gpu = score(sr.cuda(), hr.cuda(), 4).cpu()
        assert torch.allclose(gpu, score(sr, hr, 4), atol=1e-6, rtol=0)
