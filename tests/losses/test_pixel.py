"""The pixel losses against numpy in float64, and the rules of the weighted sum."""

import numpy as np
import pytest
import torch

from esr.errors import UserError
from esr.losses.pixel import L1, L2, Charbonnier, Huber
from esr.losses.weighted import Loss, WeightedLoss


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hr = torch.rand(2, 3, 16, 20, generator=generator)
    sr = hr + 0.05 * torch.randn(hr.shape, generator=generator)
    return sr, hr, torch.rand(2, 3, 4, 5, generator=generator)


def huber(d: np.ndarray, delta: float = 0.01) -> np.ndarray:
    return np.where(np.abs(d) < delta, d**2 / 2, delta * (np.abs(d) - delta / 2))


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (L1(), np.abs),
        (L2(), np.square),
        (Charbonnier(eps=1e-3), lambda d: np.sqrt(d**2 + 1e-6)),
        (Huber(delta=0.01), huber),
    ],
)
def test_equals_its_formula(loss: Loss, reference):
    sr, hr, lr = images()
    expected = reference(sr.double().numpy() - hr.double().numpy()).mean()
    assert loss(sr, hr, lr).item() == pytest.approx(expected, rel=1e-6)


def test_charbonnier_is_not_kornias():
    """kornia's function of the same name is about d^2/2 here; this one is |d|."""
    sr, hr, lr = images()
    assert Charbonnier(eps=1e-6)(sr, hr, lr).item() == pytest.approx(
        (sr - hr).abs().mean().item(), rel=1e-3
    )


def test_sum_names_and_weighs_its_terms():
    sr, hr, lr = images()
    loss = WeightedLoss({"l1": L1(weight=2.0), "l2": L2(weight=0.5)})
    total = loss(sr.requires_grad_(), hr, lr)
    l1, l2 = (sr - hr).abs().mean(), (sr - hr).square().mean()
    assert torch.allclose(total, 2 * l1 + 0.5 * l2)
    assert torch.allclose(loss.last["l1"], l1)
    assert not any(value.requires_grad for value in loss.last.values())


def test_sum_is_computed_in_float32_under_autocast():
    sr, hr, lr = images()
    loss = WeightedLoss({"l2": L2()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss(sr.bfloat16(), hr, lr)
    assert total.dtype == torch.float32
    assert torch.equal(total, (sr.bfloat16().float() - hr).square().mean())


def test_bad_input_is_named():
    sr, hr, lr = images()
    with pytest.raises(UserError, match="no terms"):
        WeightedLoss({})
    with pytest.raises(UserError, match=r"\(2, 3, 8, 10\).*\(2, 3, 16, 20\).*scale"):
        WeightedLoss({"l1": L1()})(sr[..., ::2, ::2], hr, lr)
