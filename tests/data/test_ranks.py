"""Two processes under Lightning's DDP share the batches that one process would see."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import pytorch_lightning as pl, torch
from esr.data.sets import Folder
from esr.training.datamodule import SRData

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen, self.names = [], []
    def training_step(self, batch, batch_idx):
        self.seen.append([x.double().sum().item() for x in batch["hr"]])
        return (self.weight * batch["lr"]).mean()
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.names += batch["name"]
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)

if __name__ == "__main__":
    hr, out, devices = sys.argv[1], sys.argv[2], int(sys.argv[3])
    val = {'a': Folder(hr), 'one': Folder(sys.argv[4])}
    data = SRData(4, Folder(hr), val, store="memmap", cache=out, patch_size=32,
                  batch_size=8, samples_per_epoch=24)
    net = Net()
    trainer = pl.Trainer(accelerator="cpu", devices=devices, max_steps=5, max_epochs=-1,
        strategy="ddp" if devices > 1 else "auto", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)
    trainer.fit(net, datamodule=data)
    with open(f"{out}/{devices}-{trainer.global_rank}.json", "w") as file:
        json.dump([net.seen, net.names], file)
"""


@pytest.mark.slow
def test_two_ranks_share_the_batches_of_one(folder, tmp_path):
    hr, one, out = folder(count=5), folder("one", 1), tmp_path / "out"
    out.mkdir()
    (tmp_path / "run.py").write_text(SCRIPT)
    for devices in (1, 2):
        command = [sys.executable, tmp_path / "run.py", hr, out, devices, one]
        subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=300)
    (alone, every), (first, some), (second, others) = (
        json.loads((out / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")
    )
    assert [a + b for a, b in zip(first, second, strict=True)] == alone
    assert sorted(some[:-1] + others[:-1]) == sorted(every[:-1])
    assert some[-1] == others[-1] == every[-1]  # too few to divide: each sees it
