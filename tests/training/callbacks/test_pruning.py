"""Soft pruning and the growing penalty: what they do to weights, and exactness on resume."""

import json
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from esr.config import build, compose
from esr.errors import UserError
from esr.losses.pixel import L1
from esr.losses.weighted import WeightedLoss
from esr.models.reparam.blocks import ECB
from esr.models.rlfn import RLFN
from esr.surgery.importance import FilterNorm
from esr.surgery.prune import Prune
from esr.training.callbacks.ema import EMA
from esr.training.callbacks.pruning import ChannelCallback, GrowingPenalty, SoftPruning
from esr.training.module import SuperResolution

MODEL = {"_target_": "esr.models.rlfn.RLFN", "width": 8, "mid": 8, "depth": 1, "esa_width": 4}
WIDTHS = {"width": 6, "mid": 5}


def module(**options) -> SuperResolution:
    torch.manual_seed(0)
    net = RLFN(width=8, mid=8, depth=1, esa_width=4, **options)
    loss = WeightedLoss({"l1": L1()})
    return SuperResolution(net, loss, lambda p: torch.optim.Adam(p, 1e-3))


def loader() -> DataLoader:
    random = torch.Generator().manual_seed(1)
    pairs = [
        {
            "lr": torch.rand(3, 16, 16, generator=random),
            "hr": torch.rand(3, 64, 64, generator=random),
        }
        for _ in range(6)
    ]
    return DataLoader(pairs, batch_size=2)  # type: ignore[arg-type]


def fit(callback: ChannelCallback, folder: Path, epochs: int, trained=None, **options):
    trained = trained or module()
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(trained, loader(), weights_only=True, **options)
    return trained, trainer


def test_soft_pruning_leaves_what_surgery_takes_out_without_a_trace(tmp_path: Path):
    trained, _ = fit(SoftPruning(MODEL, WIDTHS, tmp_path), tmp_path, 2)
    pruned, config = Prune(widths=WIDTHS, importance=FilterNorm())(trained.net.eval(), MODEL)
    image = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert (pruned(image) - trained.net(image)).abs().max() <= 1e-6
    assert (config["width"], config["mid"]) == (6, 5)
    lines = [json.loads(line) for line in (tmp_path / "pruning.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert len(lines[-1]["kept"]["blocks.0.convs.0"]) == 5
    assert lines[-1]["prune/params_m"] == sum(p.numel() for p in pruned.parameters()) / 1e6


def test_zeroed_filters_go_on_learning(tmp_path: Path):
    callback = SoftPruning(MODEL, WIDTHS)
    trained, _ = fit(callback, tmp_path, 1)
    weight = trained.net.state_dict()["blocks.0.convs.0.weight"]
    zero = weight.flatten(1).norm(dim=1) == 0
    assert int(zero.sum()) == 3
    trained.net(torch.rand(1, 3, 16, 16)).square().sum().backward()
    gradient = trained.net.get_parameter("blocks.0.convs.0.weight").grad
    assert gradient is not None
    assert (gradient[zero].flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("kind", ["l2", "lasso"])
def test_growing_penalty_makes_channels_dispensable(kind: str, tmp_path: Path):
    callback = GrowingPenalty(MODEL, WIDTHS, kind, step=40.0, every=1, folder=tmp_path)  # type: ignore[arg-type]
    trained, _ = fit(callback, tmp_path, 4)
    left = [json.loads(line) for line in (tmp_path / "pruning.jsonl").read_text().splitlines()]
    values = [line["prune/left"] for line in left]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.05
    pruned, _ = Prune(widths=WIDTHS)(trained.net.eval(), MODEL)
    image = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert (pruned(image) - trained.net(image)).abs().max() <= 2e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda: SoftPruning(MODEL, WIDTHS),
        lambda: GrowingPenalty(MODEL, WIDTHS, step=5.0, every=2),
    ],
)
def test_resumed_equals_uninterrupted(make, tmp_path: Path):
    whole, _ = fit(make(), tmp_path, 3)
    _, trainer = fit(make(), tmp_path, 2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = make()
    resumed, _ = fit(again, tmp_path, 3, trained=module(), ckpt_path=tmp_path / "last.ckpt")
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name


def test_what_follows_a_resumed_checkpoint_is_told_once(tmp_path: Path):
    _, trainer = fit(SoftPruning(MODEL, WIDTHS, tmp_path), tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    for _ in range(2):
        options = {"trained": module(), "ckpt_path": tmp_path / "first.ckpt"}
        fit(SoftPruning(MODEL, WIDTHS, tmp_path), tmp_path, 3, **options)
    lines = [json.loads(line) for line in (tmp_path / "pruning.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]


def test_an_average_would_bring_zeroed_filters_back(tmp_path: Path):
    trainer = pl.Trainer(callbacks=[EMA()], logger=False, default_root_dir=tmp_path)
    with pytest.raises(UserError, match="an average of the weights brings them back"):
        SoftPruning(MODEL, WIDTHS).on_fit_start(trainer, module())


def test_a_checkpoint_of_other_widths_is_refused():
    callback = SoftPruning(MODEL, WIDTHS)
    with pytest.raises(UserError, match="was pruned towards"):
        callback.load_state_dict({"widths": {"width": 4}, "kept": []})


@pytest.mark.parametrize(
    ("callback", "options", "message"),
    [
        (SoftPruning(MODEL, None), {}, "needs to know where to"),
        (SoftPruning(MODEL, {"width": 9}), {}, "at most what it is"),
        (SoftPruning(MODEL, {"breadth": 9}), {}, "has no width breadth"),
        (SoftPruning(MODEL, WIDTHS), {"conv": ECB}, "plain convolutions"),
    ],
)
def test_mistakes_are_explained(callback, options, message, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        fit(callback, tmp_path, 1, trained=module(**options))


@pytest.mark.parametrize("name", ["soft_pruning", "growing_penalty"])
def test_is_built_from_the_command_line(name: str):
    overrides = [f"callbacks=[default,{name}]", f"callbacks.{name}.widths={{width: 40}}", "name=x"]
    cfg = compose("train", overrides)
    callback = build(cfg.callbacks[name])
    assert callback.widths == {"width": 40}
    assert callback.model["_target_"] == "esr.models.rlfn.RLFN"
