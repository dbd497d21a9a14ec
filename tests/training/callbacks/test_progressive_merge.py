"""Merging while training keeps the function, the optimiser, the average, and resumes exactly."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from esr.errors import UserError
from esr.losses.pixel import L1
from esr.losses.weighted import WeightedLoss
from esr.models.plain import PlainSR
from esr.models.reparam.block import Block
from esr.models.reparam.blocks import ECB, EDBB
from esr.training.callbacks.ema import EMA
from esr.training.callbacks.merge import ProgressiveMerge
from esr.training.module import SuperResolution


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        lr = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index))
        return {"lr": lr, "hr": lr.repeat_interleave(2, 1).repeat_interleave(2, 2)}


class Before(pl.Callback):
    """Keeps the output at every batch start, at its place among the callbacks."""

    def __init__(self, seen):
        self.seen = seen

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with torch.no_grad():
            self.seen.append(pl_module.net(batch["lr"]))


class Save(pl.Callback):
    """Writes a checkpoint after `step` optimiser steps, within the run."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def module(conv=ECB):
    torch.manual_seed(0)
    net = PlainSR(scale=2, width=6, depth=1, conv=conv)
    return SuperResolution(
        net, WeightedLoss({"pixel": L1()}), lambda p: torch.optim.AdamW(p, lr=1e-3)
    )


def trainer(steps, *callbacks, **options):
    return pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def fit(steps, *callbacks, conv=ECB, batch_size=2, ckpt_path=None):
    model = module(conv)
    run = trainer(steps, *callbacks)
    run.fit(model, DataLoader(Pairs(), batch_size), ckpt_path=ckpt_path)
    return run, model


def test_merging_keeps_the_function_and_starts_branches_afresh():
    before, after = [], []
    merge = ProgressiveMerge(every=3, branches=["expand", "laplacian"])
    model = module()
    block = model.net.head
    starts = []

    class Snapshot(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            starts.append(block.branches["expand"].expand.weight.detach().clone())
            if trainer.global_step == 3:
                kernel = block.branches["expand"].kernel().weight
                assert kernel.abs().max() == 0
                parameters = list(block.branches["expand"].parameters())
                assert not any(p in trainer.optimizers[0].state for p in parameters)
                assert block.branches["conv"].conv.weight in trainer.optimizers[0].state
                assert block.branches["sobel_x"].scale in trainer.optimizers[0].state

    run = trainer(5, Before(before), merge, Before(after), Snapshot())
    run.fit(model, DataLoader(Pairs(), batch_size=2))
    for old, new in zip(before, after, strict=True):
        assert (old - new).abs().max() <= 1e-6
    assert not torch.allclose(starts[2], starts[3], atol=0.02), "new weights at step 3"
    assert torch.allclose(starts[3], starts[4], atol=0.02)
    last = block.branches["expand"].spatial.weight
    assert last.abs().max() > 0, "the new branch learns"


def test_retired_branches_stay_merged_and_cost_nothing():
    calls = []
    merge = ProgressiveMerge(every=0, retire={2: ["sobel_x", "expand"]})
    before, after = [], []
    model = module()
    head = model.net.head
    head.branches["expand"].register_forward_hook(lambda *_: calls.append(1))
    run = trainer(5, Before(before), merge, Before(after))
    run.fit(model, DataLoader(Pairs(), batch_size=2))
    for old, new in zip(before, after, strict=True):
        assert (old - new).abs().max() <= 1e-6
    # two steps and their two looks, and the look just before the third step
    assert len(calls) == 2 + 2 * 2 + 1
    assert head.branches["expand"].kernel().weight.abs().max() == 0
    assert not any(p.requires_grad for p in head.branches["expand"].parameters())
    earlier = module().state_dict()
    model.load_state_dict(earlier)
    assert not head.retired, "older weights bring their branches back"


@pytest.mark.parametrize("ema", [False, True], ids=["raw", "ema"])
@pytest.mark.parametrize("stop", [3, 4, 5])
def test_a_resumed_run_is_exact(tmp_path, stop, ema):
    def callbacks():
        merge = ProgressiveMerge(every=2, retire={4: ["sobel_x", "sobel_y"]}, seed=5)
        return [merge, *([EMA(decay=0.9)] if ema else [])]

    fit_whole = partial(fit, batch_size=16)  # a step an epoch: this loader has no position
    _, whole = fit_whole(8, *callbacks())
    fit_whole(8, *callbacks(), Save(tmp_path / "part.ckpt", stop))
    _, resumed = fit_whole(8, *callbacks(), ckpt_path=tmp_path / "part.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_the_average_is_merged_like_the_weights():
    ema = EMA(decay=0.5)
    outputs, contributions = [], []
    x = Pairs()[0]["lr"][None]

    class Average(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            with torch.no_grad():
                net = ema._average_model.module.net
                outputs.append(net(x))
                contributions.append(net.head.branches["expand"].kernel().weight.abs().max())

    fit(4, Average(), ProgressiveMerge(every=2), Average(), ema)
    for old, new in zip(outputs[::2], outputs[1::2], strict=True):
        assert (old - new).abs().max() <= 1e-6
    assert [bool(c == 0) for c in contributions[1::2]] == [False, False, True, False]


def test_accumulated_gradients_are_not_torn_apart():
    merge = ProgressiveMerge(every=1)
    steps = []
    inner = merge._merge

    def spy(trainer, *rest, **options):
        steps.append((trainer.global_step, all(p.grad is None for p in model.net.parameters())))
        inner(trainer, *rest, **options)

    merge._merge = spy
    model = module()
    run = trainer(3, merge, accumulate_grad_batches=2)
    run.fit(model, DataLoader(Pairs(), batch_size=2))
    assert [step for step, _ in steps] == [1, 2]


def test_wrong_names_and_plain_networks_are_refused():
    with pytest.raises(UserError, match=r"no block has a branch 'sobel' to merge: expand, lap"):
        fit(1, ProgressiveMerge(branches=["sobel"]))
    with pytest.raises(UserError, match=r"needs re-parameterised blocks.*conv=ecb"):
        fit(1, ProgressiveMerge(), conv=nn.Conv2d)
    with pytest.raises(UserError, match=r"no block has a branch 'identity'"):
        fit(1, ProgressiveMerge(retire={1: ["identity"]}), conv=EDBB)


def test_every_block_of_a_network_takes_part():
    model = module(partial(EDBB, collapsed=True))
    run = trainer(3, ProgressiveMerge(every=2))
    run.fit(model, DataLoader(Pairs(), batch_size=2))
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    assert len(blocks) == 3
    for block in blocks:
        assert block.branches["laplacian"].scale.abs().max() <= 1.1e-3, "one step after zero"
