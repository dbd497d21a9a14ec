"""Every entry of NTIRE 2022 is the published network: names, outputs, cost, smallest input.

The entries are the files of the folder, so a new one is tested by being there.
"""

import functools
import json
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded import COMPUTED, seeded
from torch import nn

from esr.config import COLLECTION, build, compose, experiments_dir
from esr.data.images import read_rgb
from esr.errors import UserError
from esr.metrics.complexity import complexity
from esr.metrics.fidelity import psnr_rgb, psnr_y
from esr.models.network import Network
from esr.zoo import catalogue as zoo

REFERENCE = Path(__file__).parents[1] / "reference"
FACTS = json.loads((REFERENCE / "ntire2022.json").read_text())
PSNR = json.loads((REFERENCE / "psnr.json").read_text())
SLUGS = sorted(path.stem for path in (experiments_dir() / "ntire2022").glob("*.yaml"))
SLUGS = [slug for slug in SLUGS if slug != COLLECTION]
SEEDED = [slug for slug in SLUGS if FACTS[slug]["noise"]]
OFFICIAL = [slug for slug in SLUGS if slug in PSNR]

UNLIKE_PUBLISHED = {"bsrn": {"flops_g"}}
"""Figures in which an entry differs from its published row; its `note` says why."""


@functools.cache
def config(slug: str):
    return compose("train", [f"ntire2022={slug}"])


def fresh(slug: str, scale: int = 4) -> Network:
    cfg = config(slug).copy()
    cfg.scale = scale
    return build(cfg.model)


@functools.cache
def seeded_net(slug: str) -> Network:
    """The entry with seeded weights; values that networks compute themselves stay."""
    facts, net = FACTS[slug], fresh(slug).eval()
    entry = zoo.entry(f"ntire2022/{slug}")
    own = zoo.export_official(net, entry.name)
    official = {
        key: own.get(entry.prefix + key, torch.empty(shape))
        if key.endswith(COMPUTED)
        else seeded(key, shape, facts["range"])
        for key, shape in facts["tensors"].items()
    }
    net.load_state_dict(zoo.to_ours(entry, official))
    if slug == "esan":  # at 255 it is chaotic under random weights: its reference was made at 1
        net.data_range = 1.0
    return net


def deviation(net: nn.Module, arrays: str, key: str, image: str) -> float:
    """Largest difference of the sampled output from the reference, on [0, 1]."""
    with np.load(REFERENCE / arrays) as reference:
        rgb, samples = reference[f"{image}.rgb"], reference[f"{key}.{image}.s11"]
        phases = reference[f"{key}.{image}.phase"]
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        y = net(x)[0].numpy()
    means = np.array([[y[:, i::4, j::4].mean((1, 2)) for j in range(4)] for i in range(4)])
    by_phase = np.abs(means - phases).max()
    return max(np.abs(y[:, ::11, ::11] - samples).max(), by_phase)


@pytest.mark.parametrize("slug", SLUGS)
def test_names_lead_to_the_official_ones_and_back(slug):
    entry, net, facts = zoo.entry(f"ntire2022/{slug}"), seeded_net(slug), FACTS[slug]
    used = {
        key: shape
        for key, shape in facts["tensors"].items()
        if not any(fnmatchcase(key, pattern) for pattern in entry.unused)
    }
    exported = zoo.export_official(net, entry.name)
    assert exported.keys() == {entry.prefix + key for key in used}
    for key, shape in used.items():
        tensor = exported[entry.prefix + key]
        assert list(tensor.shape) == shape, key
        if not key.endswith(COMPUTED):
            assert torch.equal(tensor, seeded(key, shape, facts["range"])), key
    assert entry.unused_params == facts["unused_params"]


@pytest.mark.parametrize("image", ["A", "C"])
@pytest.mark.parametrize("slug", SEEDED)
def test_seeded_output_is_the_original_networks(slug, image):
    facts = FACTS[slug]
    assert deviation(seeded_net(slug), "seeded.npz", facts["key"], image) <= (
        5 * facts["noise"][image]
    )


@pytest.mark.parametrize("image", ["A", "C"])
@pytest.mark.parametrize("slug", OFFICIAL)
def test_official_output_is_the_original_networks(slug, image, weights):
    net = zoo.load(f"ntire2022/{slug}", folder=weights)
    assert deviation(net, "official.npz", slug, image) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ["Set5", "Set14"])
@pytest.mark.parametrize("slug", OFFICIAL)
def test_official_psnr(slug, benchmark, weights, shared):
    measured = psnr(zoo.load(f"ntire2022/{slug}", folder=weights), shared / "data" / benchmark)
    for name, value in PSNR[slug][benchmark].items():
        assert measured[name] == pytest.approx(value, abs=0.005), name


@pytest.mark.parametrize(("benchmark", "printed"), [("Set5", 32.24), ("Set14", 28.62)])
def test_rlfn_of_the_paper_reaches_its_table(benchmark, printed, weights, shared):
    measured = psnr(zoo.load("papers/rlfn", folder=weights), shared / "data" / benchmark)
    assert round(measured["y"], 2) == printed
    assert measured["y"] == pytest.approx(PSNR["rlfn_paper_x4"][benchmark]["y"], abs=0.005)


@pytest.mark.parametrize("slug", SLUGS)
def test_cost_is_the_published_row(slug):
    entry, cost = zoo.entry(f"ntire2022/{slug}"), complexity(seeded_net(slug))
    assert entry.published is not None
    measured = {
        "params_m": f"{(cost.params + entry.unused_params) / 1e6:.3f}",
        "flops_g": f"{cost.flops / 1e9:.2f}",
        "acts_m": f"{cost.acts / 1e6:.2f}",
        "convs": str(cost.convs),
    }
    different = {name for name, value in measured.items() if value != entry.published[name]}
    assert different == UNLIKE_PUBLISHED.get(slug, set())
    assert entry.note or not different
    assert not cost.unused, "a parameter of ours takes part in nothing"


@pytest.mark.parametrize("slug", SLUGS)
def test_smallest_input_is_the_originals_and_refused_below(slug):
    net = seeded_net(slug)
    side = FACTS[slug]["min_size"]
    assert net.min_size == side
    with torch.no_grad():
        assert net(torch.rand(1, 3, side, side + 1)).shape == (1, 3, 4 * side, 4 * side + 4)
    if side > 1:
        with pytest.raises(UserError, match=f"at least {side}x{side} pixels, got {side + 1}x"):
            net(torch.rand(1, 3, side - 1, side + 1))


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("slug", SLUGS)
def test_other_scales(slug, scale):
    net = fresh(slug, scale).eval()
    height, width = net.min_size + 2, net.min_size + 3
    with torch.no_grad():
        shape = net(torch.rand(2, 3, height, width)).shape
    assert shape == (2, 3, scale * height, scale * width)


@pytest.mark.parametrize("slug", SLUGS)
def test_trains(slug):
    torch.manual_seed(0)
    net = fresh(slug).train()
    lr = torch.rand(1, 3, 16, 16)
    hr = nn.functional.interpolate(lr, scale_factor=4, mode="bicubic").clamp(0, 1)
    optimizer = torch.optim.Adam(net.parameters(), 5e-4)
    losses, reached = [], set()
    for _ in range(20):
        loss = nn.functional.l1_loss(net(lr), hr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        reached |= {
            n for n, p in net.named_parameters() if p.grad is not None and p.grad.any().item()
        }
    assert min(losses[-3:]) < 0.95 * losses[0]
    trained = {n for n, p in net.named_parameters() if p.requires_grad}  # mean shifts are frozen
    assert trained - reached == set()


def test_sfdn_repaired_is_the_merged_network_at_its_range():
    """What the released class would compute, had the challenge's script merged and scaled."""
    repaired = zoo.load("ntire2022/sfdn", weights=None, model="sfdn_repaired")
    merged = fresh("sfdn").eval()
    merged.load_state_dict(repaired.state_dict())
    merged.data_range = 255.0
    with torch.no_grad():
        for block in merged.blocks:
            for conv in block.refine:
                conv.weight[:, :, 1, 1] += torch.eye(len(conv.weight))
        x = torch.rand(1, 3, 20, 24)
        torch.testing.assert_close(repaired(x), merged(x), atol=1e-5, rtol=1e-5)


def psnr(net: nn.Module, folder: Path) -> dict[str, float]:
    """Averages over a benchmark, border 4, in dB."""
    values = {"rgb": [], "y": []}
    for path in sorted((folder / "HR").glob("*.png")):
        low = next((folder / "LR_bicubic").rglob(f"{path.stem}*.png"))
        lr, hr = (
            torch.from_numpy(read_rgb(p)).permute(2, 0, 1)[None].float() / 255 for p in (low, path)
        )
        with torch.no_grad():
            sr = net(lr)
        hr = hr[..., : sr.shape[-2], : sr.shape[-1]]
        values["rgb"].append(psnr_rgb(sr, hr, 4).item())
        values["y"].append(psnr_y(sr, hr, 4).item())
    assert values["y"]
    return {name: float(np.mean(v)) for name, v in values.items()}
