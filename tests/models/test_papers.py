"""Networks of papers whose training is public: their published size, and LKDN's exact merge."""

import pytest
import torch

from esr.config import build, compose
from esr.models.bsrn import LKDN, SeparableConvRep
from esr.models.imdn import IMDNPaper
from esr.models.pan import PAN
from esr.models.plain import EDSR
from esr.models.safmn import SAFMN
from esr.surgery.fuse import fusable, fuse


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("make", "scale", "thousands"),
    [
        (EDSR, 4, 1518),
        (EDSR, 2, 1370),
        (EDSR, 3, 1555),
        (PAN, 4, 272),
        (PAN, 2, 261),
        (PAN, 3, 261),
        (SAFMN, 4, 240),
        (SAFMN, 2, 228),
        (SAFMN, 3, 233),
        (IMDNPaper, 4, 715),
        (IMDNPaper, 2, 694),
        (IMDNPaper, 3, 703),
    ],
)
def test_size_is_the_published_one(make, scale: int, thousands: int):
    net = make(scale=scale)
    assert round(parameters(net) / 1000) == thousands
    assert net(torch.rand(1, 3, 20, 17)).shape == (1, 3, 20 * scale, 17 * scale)


def test_edsr_works_around_the_mean_colour():
    torch.manual_seed(0)
    net = EDSR(data_range=255.0)
    for module in (net.trunk, net.tail[-1], *(b.convs[1] for b in net.blocks)):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
    colour = net(torch.rand(1, 3, 8, 8))[0, :, 0, 0]
    assert torch.allclose(colour, torch.tensor([0.4488, 0.4371, 0.4040]), atol=1e-6)


def test_contrast_attention_survives_a_flat_image():
    net = IMDNPaper(depth=1)
    net(torch.zeros(1, 3, 8, 8)).mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_lkdn_merges_exactly():
    torch.manual_seed(0)
    net = LKDN(conv=SeparableConvRep).double().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.rand(1, 3, 21, 18, dtype=torch.float64)
    merged = fuse(net)
    assert not fusable(merged)
    assert merged.state_dict().keys() == LKDN().state_dict().keys()
    assert torch.allclose(merged(x), net(x), rtol=1e-9, atol=1e-9)


def test_lkdn_chooses_its_training_form_by_name():
    net = build(compose(overrides=["model=lkdn_s", "conv=separable_rep"]).model)
    assert isinstance(net.blocks[0].refine[0], SeparableConvRep)
