"""Every spelling of a weights file is read; nothing that could run code ever is."""

import argparse
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from esr.errors import UserError
from esr.models.state import mismatch
from esr.zoo.files import read, spellings

TENSORS = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.zeros(2)}


class Hostile:
    """Runs a command when it is unpickled by a reader that allows it."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize(
    ("content", "nesting"),
    [
        (TENSORS, ""),
        ({"params": TENSORS}, "params"),
        ({"params": {"head.weight": torch.ones(1)}, "params_ema": TENSORS}, "params_ema"),
        ({"state_dict": TENSORS, "epoch": 3, "optimizer": {"state": {}}}, "state_dict"),
        ({"model_state_dict": TENSORS, "loss": torch.tensor(1.0)}, "model_state_dict"),
        ({"net": TENSORS, "best": np.float64(31.5), "lr": np.float32(1e-3)}, "net"),
        ({"model": {"state_dict": TENSORS}}, "model.state_dict"),
        ({"args": argparse.Namespace(out=Path("x")), "params": TENSORS}, "params"),
        ({"generator_weights": TENSORS}, "generator_weights"),
    ],
)
def test_finds_the_tensors(tmp_path: Path, content, nesting: str):
    torch.save(content, tmp_path / "a.pth")
    found = read(tmp_path / "a.pth")
    assert found.nesting == nesting
    assert list(found.tensors) == list(TENSORS)
    torch.testing.assert_close(found.tensors, TENSORS)


def test_reads_the_format_before_zip(tmp_path: Path):
    torch.save(TENSORS, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    torch.testing.assert_close(read(tmp_path / "a.pth").tensors, TENSORS)


def test_wrappers_are_taken_off():
    wrapped = {f"module._orig_mod.{name}": value for name, value in TENSORS.items()}
    assert any(list(names) == list(TENSORS) for names in spellings(wrapped))
    lightning = {f"net.{name}": value for name, value in TENSORS.items()}
    lightning["loss.filter"] = torch.zeros(1)
    assert any(list(names) == list(TENSORS) for names in spellings(lightning))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_is_refused_and_never_runs(tmp_path: Path, writer: str, protocol: int):
    trace, path = tmp_path / "trace", tmp_path / "a.pth"
    content = {"params": TENSORS if writer == "torch" else 1, "extra": Hostile(trace)}
    if writer == "torch":
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(UserError, match=r"refused: it needs posix.system"):
        read(path)
    assert not trace.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path):
    torch.save(torch.nn.Conv2d(3, 3, 3), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.conv\.Conv2d.*state_dict"):
        read(tmp_path / "a.pth")


def test_damaged_and_foreign_files_are_named(tmp_path: Path, shared: Path):
    torch.save({"params": TENSORS}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    contents = {
        "truncated.pth": (whole[: len(whole) // 2], "truncated or damaged"),
        "empty.pth": (b"", "is empty"),
        "pointer.pth": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "page.pth": (b"<!DOCTYPE html><html>", "web page"),
        "text.pth": (b"hello world", "not a weights file"),
        "text.safetensors": (b"hello world", "truncated or damaged"),
    }
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
    shutil.copy(shared / "data" / "Set5" / "HR" / "bird.png", tmp_path / "photo.pth")
    with pytest.raises(UserError, match=r"photo.pth is not a weights file"):
        read(tmp_path / "photo.pth")
    with pytest.raises(UserError, match="there is no file"):
        read(tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 1, "options": {"lr": 1}}, torch.zeros(2)])
def test_files_without_weights_are_named(tmp_path: Path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth holds"):
        read(tmp_path / "a.pth")


def test_mismatch_lists_what_differs_and_stays_short():
    wanted = {f"blocks.{i}.weight": torch.zeros(4, 3) for i in range(20)} | {"tail": torch.zeros(1)}
    found = {"blocks.0.weight": torch.zeros(5, 3), "tail": torch.zeros(1), "odd": torch.zeros(1)}
    text = mismatch(found, wanted)
    assert "19 missing: blocks.1.weight" in text
    assert "and 13 more" in text
    assert "1 unexpected: odd" in text
    assert "blocks.0.weight 5x3 instead of 4x3" in text
    assert mismatch(wanted, wanted) == ""
