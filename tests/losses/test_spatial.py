"""Frequency, structure and edge losses against numpy and scipy-free float64 references."""

import numpy as np
import pytest
import torch

from esr.errors import UserError
from esr.losses.edges import Edge, GradientVariance, TotalVariation
from esr.losses.frequency import Fourier
from esr.losses.structure import MSSSIM, SSIM
from esr.losses.weighted import Loss


def images(size: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A smooth target with structure, a noisy output, and an input that nobody reads."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 6, 6, generator=generator)
    hr = torch.nn.functional.interpolate(coarse, size=(size, size + 4), mode="bilinear")
    return hr + 0.05 * torch.randn(hr.shape, generator=generator), hr, torch.empty(0)


def value(loss: Loss, sr: torch.Tensor, hr: torch.Tensor) -> float:
    return loss(sr, hr, torch.empty(0)).item()


def filtered(x: np.ndarray, kernel: list[list[float]]) -> np.ndarray:
    """Correlation with a 3x3 kernel, zeros outside, in float64."""
    padded = np.pad(x.astype(np.float64), [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
    h, w = x.shape[-2:]
    taps = [(i, j, kernel[i][j]) for i in range(3) for j in range(3)]
    return sum(k * padded[..., i : i + h, j : j + w] for i, j, k in taps)


SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
SOBEL_T = np.transpose(SOBEL).tolist()
LAPLACE = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]


def test_fourier_equals_numpy():
    sr, hr, _ = images()
    a, b = (np.fft.rfft2(x.double().numpy()) for x in (sr, hr))
    parts = np.concatenate([np.abs((a - b).real), np.abs((a - b).imag)])
    assert value(Fourier(), sr, hr) == pytest.approx(parts.mean(), rel=1e-6)
    moduli = np.abs(np.abs(a) - np.abs(b)).mean()
    assert value(Fourier(compare="amplitude"), sr, hr) == pytest.approx(moduli, rel=1e-6)


def test_amplitude_ignores_where_things_are():
    _, hr, _ = images()
    moved = hr.roll((3, 5), dims=(2, 3))
    assert value(Fourier(compare="amplitude"), moved, hr) < 1e-5
    assert value(Fourier(), moved, hr) > 1


def test_edges_equal_numpy():
    sr, hr, _ = images()
    d = (sr.double() - hr.double()).numpy()
    sobel = np.stack([np.abs(filtered(d, SOBEL)), np.abs(filtered(d, SOBEL_T))]).mean()
    assert value(Edge("sobel"), sr, hr) == pytest.approx(sobel, rel=1e-6)
    laplacian = np.abs(filtered(d, LAPLACE)).mean()
    assert value(Edge("laplacian"), sr, hr) == pytest.approx(laplacian, rel=1e-6)


@pytest.mark.parametrize("shares", [(1.0, 1.0, 0.0), (1e-3, 2e-3, 3e-3)])
def test_gradient_variance_equals_numpy(shares: tuple[float, float, float]):
    sr, hr, _ = images(size=41)
    expected = 0.0
    for kernel, share in zip((SOBEL, SOBEL_T, LAPLACE), shares, strict=True):
        variances = []
        for image in (sr, hr):
            rgb = image.double().numpy()
            grey = np.tensordot([0.2989, 0.5870, 0.1140], rgb, axes=(0, 1))
            g = filtered(grey, kernel)
            tiles = [
                g[:, i : i + 8, j : j + 8].reshape(len(g), -1)
                for i in range(0, g.shape[1] - 7, 8)
                for j in range(0, g.shape[2] - 7, 8)
            ]
            variances.append(np.stack([tile.var(axis=1, ddof=1) for tile in tiles]))
        expected += share * np.square(variances[0] - variances[1]).mean()
    x, y, laplacian = shares
    loss = GradientVariance(sobel_x=x, sobel_y=y, laplacian=laplacian)
    # float32 variances of differences: compare with float64 input exactly, float32 nearly
    assert value(loss.double(), sr.double(), hr.double()) == pytest.approx(expected, rel=1e-6)
    assert value(loss.float(), sr, hr) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_total_variation_equals_numpy_and_ignores_the_target():
    sr, hr, _ = images()
    d = sr.double().numpy()
    expected = np.abs(np.diff(d, axis=2)).mean() + np.abs(np.diff(d, axis=3)).mean()
    assert value(TotalVariation(), sr, hr) == pytest.approx(expected, rel=1e-6)
    assert value(TotalVariation(), sr, sr) == value(TotalVariation(), sr, hr)


def ssim_reference(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """SSIM and contrast-structure of one channel, from the definition, in float64."""
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    view = np.lib.stride_tricks.sliding_window_view
    a, b = view(x, (11, 11)), view(y, (11, 11))
    mean = lambda z: np.einsum("hwij,ij->hw", z, window)  # noqa: E731
    ma, mb = mean(a), mean(b)
    da, db = a - ma[..., None, None], b - mb[..., None, None]
    contrast = (2 * mean(da * db) + 9e-4) / (mean(da * da) + mean(db * db) + 9e-4)
    luminance = (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)
    return (luminance * contrast).mean(), contrast.mean()


def test_ssim_equals_its_definition():
    sr, hr, _ = images()
    a, b = sr.double().numpy(), hr.double().numpy()
    planes = [(a[i, c], b[i, c]) for i in range(2) for c in range(3)]
    expected = 1 - np.mean([ssim_reference(*plane)[0] for plane in planes])
    assert value(SSIM(), sr, hr) == pytest.approx(expected, abs=1e-6)


def test_ms_ssim_equals_its_definition():
    sr, hr, _ = images(size=176)
    expected = []
    for image in range(2):
        for channel in range(3):
            a, b = (x[image, channel].double().numpy() for x in (sr, hr))
            product = 1.0
            for scale, power in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
                whole, contrast = ssim_reference(a, b)
                product *= (whole if scale == 4 else contrast) ** power
                h, w = a.shape[0] // 2, a.shape[1] // 2
                a, b = (x[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3)) for x in (a, b))
            expected.append(product)
    assert value(MSSSIM(), sr, hr) == pytest.approx(1 - np.mean(expected), abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [SSIM(), MSSSIM(), Fourier(), Fourier("amplitude"), Edge(), GradientVariance()],
    ids=lambda loss: type(loss).__name__,
)
def test_equal_images_cost_nothing_and_gradients_are_finite(loss: Loss):
    sr, hr, _ = images(size=176)
    assert value(loss, hr, hr) == pytest.approx(0, abs=1e-6)
    sr.requires_grad_()
    loss(sr, hr, torch.empty(0)).backward()
    assert sr.grad is not None
    assert sr.grad.isfinite().all()
    assert sr.grad.abs().max() > 0


def test_too_small_targets_are_named():
    sr, hr, lr = images(size=40)
    with pytest.raises(UserError, match="at least 161x161 pixels, got 44x40"):
        MSSSIM()(sr, hr, lr)
    with pytest.raises(UserError, match="at least 48x48"):
        GradientVariance(patch=48)(sr, hr, lr)
    with pytest.raises(UserError, match="at least one of sobel_x"):
        GradientVariance(sobel_x=0, sobel_y=0)
