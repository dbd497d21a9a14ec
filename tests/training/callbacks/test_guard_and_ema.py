"""The guard leaves a bad step out exactly; the average is what it says, and resumes."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from esr.errors import UserError
from esr.losses.pixel import L1, L2
from esr.losses.weighted import Loss, WeightedLoss
from esr.training.callbacks.ema import EMA
from esr.training.callbacks.guard import NonFiniteGuard
from esr.training.module import SuperResolution


class Pairs(torch.utils.data.Dataset):
    """Pairs that depend on their index alone; the targets of `bad` ones are nan."""

    def __init__(self, count: int, bad: tuple[int, ...] = ()):
        self.count = count
        self.bad = bad

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        lr = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(index))
        hr = lr.repeat_interleave(2, 1).repeat_interleave(2, 2)
        return {
            "lr": lr,
            "hr": hr * torch.nan if index in self.bad else hr,
            "name": f"image{index}",
        }


class Weights(pl.Callback):
    """Remembers the weights after every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(flat(pl_module))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def module(loss: type[Loss] = L2) -> SuperResolution:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.PixelShuffle(2))
    return SuperResolution(
        net,
        WeightedLoss({"pixel": loss()}),
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    )


def train(data: Pairs, *callbacks: pl.Callback, model=None, ckpt_path=None, **options):
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=options.pop("max_epochs", 1),
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    model = model or module()
    trainer.fit(model, DataLoader(data, batch_size=2), ckpt_path=ckpt_path)
    return trainer, model


@pytest.mark.parametrize("loss", [L1, L2])  # L1's gradient is finite even where the loss is nan
def test_a_bad_step_changes_nothing_and_is_named(loss: type[Loss], capsys):
    weights, guard = Weights(), NonFiniteGuard()
    trainer, _ = train(Pairs(10, bad=(5,)), guard, weights, model=module(loss))
    before, after, later = weights.seen[1:4]
    assert torch.equal(before, after), "weights moved in a step with nan"
    assert not torch.equal(after, later)
    assert later.isfinite().all()
    moments = trainer.optimizers[0].state_dict()["state"]
    assert all(state["step"] == 4 for state in moments.values()), "5 batches, 4 updates"
    assert guard.skipped == 1
    assert guard.in_a_row == 0
    assert "step 2 skipped" in (out := capsys.readouterr().out)
    assert "batch 2 of epoch 1, loss nan (image4, image5)" in out


def test_without_the_guard_everything_is_lost():
    _, model = train(Pairs(10, bad=(5,)))
    assert flat(model).isnan().any()


def test_a_bad_batch_spoils_one_accumulated_step_and_no_more(capsys):
    weights, guard = Weights(), NonFiniteGuard()
    train(Pairs(24, bad=(9,)), guard, weights, accumulate_grad_batches=3)
    steps = weights.seen[2::3]
    assert torch.equal(steps[0], steps[1])
    assert not torch.equal(steps[1], steps[2])
    assert not torch.equal(steps[2], steps[3])
    assert guard.skipped == 1
    assert "batch 4 of epoch 1" in capsys.readouterr().out


def test_clipping_and_a_bad_step_go_together():
    _, model = train(Pairs(10, bad=(5,)), NonFiniteGuard(), gradient_clip_val=0.1)
    assert flat(model).isfinite().all()


def test_it_stops_when_it_does_not_end():
    bad = tuple(range(4, 20))
    with pytest.raises(UserError, match=r"3 steps in a row .* batch 4 of epoch 1.*optim.lr"):
        train(Pairs(20, bad=bad), NonFiniteGuard(patience=3))


def test_good_steps_are_untouched():
    guarded, plain = Weights(), Weights()
    train(Pairs(10), NonFiniteGuard(), guarded)
    train(Pairs(10), plain)
    assert torch.equal(torch.stack(guarded.seen), torch.stack(plain.seen))


@pytest.mark.parametrize("warmup", [True, False])
def test_average_equals_its_definition(warmup: bool):
    weights, ema = Weights(), EMA(decay=0.6, warmup=warmup)
    _, model = train(Pairs(12), ema, weights)
    expected = weights.seen[0].double()
    for step, seen in enumerate(weights.seen[1:], start=1):
        decay = min(0.6, (1 + step) / (10 + step)) if warmup else 0.6
        expected = decay * expected + (1 - decay) * seen.double()
    assert torch.allclose(flat(model).double(), expected, atol=1e-6), (
        "left in the module at the end"
    )
    assert not torch.allclose(flat(model), weights.seen[-1], atol=1e-4)


def test_decay_reaches_its_value():
    assert EMA(0.999).decay_at(0) == pytest.approx(0.1)
    assert EMA(0.999).decay_at(9000) == 0.999
    assert EMA(0.999, warmup=False).decay_at(0) == 0.999


def test_resumed_average_equals_an_undisturbed_one(tmp_path):
    """Bit for bit: average, raw weights and their batch statistics."""
    _, whole = train(Pairs(8), EMA(0.9), max_epochs=4)
    trainer, _ = train(Pairs(8), EMA(0.9), Save(tmp_path / "last.ckpt", epoch=1), max_epochs=4)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {"current_model_state", "state_dict"} <= checkpoint.keys()
    torch.manual_seed(5)
    _, resumed = train(
        Pairs(8), EMA(0.9), model=module(), ckpt_path=tmp_path / "last.ckpt", max_epochs=4
    )
    assert trainer.global_step == 16
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


class Save(pl.Callback):
    """Writes a checkpoint after one epoch."""

    def __init__(self, path, epoch: int):
        self.path, self.epoch = path, epoch

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)
