"""The contrastive loss against numpy in float64, its gradients and its weights."""

import numpy as np
import pytest
import torch

from esr.errors import UserError
from esr.losses.contrastive import Contrastive, RandomFeatures


def batch(n: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    hr = torch.rand(n, 3, 24, 32, generator=generator)
    sr = hr + 0.1 * torch.randn(hr.shape, generator=generator)
    return sr, hr, torch.nn.functional.avg_pool2d(hr, 4)


def convolve(x: np.ndarray, kernel: np.ndarray, padding: int) -> np.ndarray:
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, kernel)


def cubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """Bicubic enlargement with a = -0.75 and repeated borders, one axis after the other."""

    def weights(size: int) -> np.ndarray:
        matrix = np.zeros((size * scale, size))
        for at in range(size * scale):
            position = (at + 0.5) / scale - 0.5
            base = int(np.floor(position))
            for tap in range(base - 1, base + 3):
                d = abs(position - tap)
                near = 1.25 * d**3 - 2.25 * d**2 + 1
                far = -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
                matrix[at, min(max(tap, 0), size - 1)] += near if d <= 1 else far
        return matrix

    return np.einsum("yh,nchw,xw->ncyx", weights(lr.shape[2]), lr, weights(lr.shape[3]))


def reference(loss: Contrastive, sr, hr, lr) -> float:
    kernels = [k.double().numpy() for k in (loss.features.first, loss.features.second)]

    def features(x: np.ndarray) -> list[np.ndarray]:
        x = x * loss.features.data_range
        shallow = np.tanh(convolve(x, kernels[0], loss.features.padding))
        return [shallow, convolve(shallow, kernels[1], loss.features.padding)]

    anchor, positive = (features(x.double().numpy()) for x in (sr, hr))
    negative = features(cubic(lr.double().numpy(), 4))
    total = 0.0
    for weight, a, p, n in zip(loss.layer_weights, anchor, positive, negative, strict=True):
        near = np.abs(a - p).mean()
        far = np.mean([np.abs(a - np.roll(n, -k, axis=0)).mean() for k in range(loss.negatives)])
        total += weight * (near / (far + 1e-7) if loss.form == "ratio" else near - far)
    return total


@pytest.mark.parametrize(
    "loss",
    [
        Contrastive(),
        Contrastive(form="difference"),
        Contrastive(widths=(3, 5), layer_weights=(0.25, 2.0), padding=1, seed=3),
        Contrastive(data_range=255),
        Contrastive(negatives=3),
    ],
    ids=["ratio", "difference", "options", "0..255", "several negatives"],
)
def test_equals_a_float64_reference(loss: Contrastive):
    sr, hr, lr = batch()
    assert loss(sr, hr, lr).item() == pytest.approx(reference(loss, sr, hr, lr), abs=1e-6)


def test_gradients_pass_through_the_anchor_only():
    sr, hr, lr = (x.requires_grad_() for x in batch())
    loss = Contrastive()
    loss(sr, hr, lr).backward()
    assert sr.grad is not None
    assert sr.grad.abs().sum() > 0
    assert hr.grad is None
    assert lr.grad is None
    assert not list(loss.parameters())


def test_pulls_towards_the_target_and_away_from_the_enlarged_input():
    _, hr, lr = batch()
    enlarged = torch.nn.functional.interpolate(lr, scale_factor=4, mode="bicubic")
    loss = Contrastive()
    assert loss(hr, hr, lr) == 0
    assert loss(enlarged, hr, lr) > loss((enlarged + hr) / 2, hr, lr) > 0


def test_extractor_depends_on_its_seed_alone():
    torch.manual_seed(1)
    one = RandomFeatures(seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    with torch.device("meta"):  # any other default device
        two = RandomFeatures(seed=5)
    assert torch.equal(one.first, two.first)
    assert torch.equal(one.second, two.second)
    assert not torch.equal(one.first, RandomFeatures(seed=6).first)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state()), "the run's random numbers were used"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_loss_is_the_same_on_the_accelerator():
    sr, hr, lr = batch()
    with torch.device("cuda"):
        there = Contrastive().cuda()
    here = Contrastive()(sr, hr, lr).item()
    assert there(sr.cuda(), hr.cuda(), lr.cuda()).item() == pytest.approx(here, rel=1e-4)


def test_extractor_is_in_no_checkpoint():
    assert not Contrastive().state_dict()


def test_bad_arguments_are_named():
    sr, hr, lr = batch(2)
    with pytest.raises(UserError, match="'ratio' or 'difference', got 'quotient'"):
        Contrastive(form="quotient")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="two widths"):
        Contrastive(widths=(3,))
    with pytest.raises(UserError, match="two layer weights"):
        Contrastive(layer_weights=(1.0,))
    with pytest.raises(UserError, match=r"4 negatives.*got 2.*data.batch_size=4"):
        Contrastive(negatives=4)(sr, hr, lr)


def test_an_extractor_that_sees_nothing_is_refused():
    with pytest.raises(UserError, match="positive data_range, such as 1 or 255; got 0"):
        Contrastive(data_range=0)
