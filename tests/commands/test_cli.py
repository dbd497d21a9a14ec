"""Wrong input on the command line is one line that lists what exists."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException

from esr.config import compose, explain


def message(*overrides: str) -> str:
    with pytest.raises(HydraException) as caught:
        compose("train", overrides)
    return explain(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model=rlfm", "model=rlfn"),
        ("data=div2", "data=div2k"),
        ("loss=[l3]", "contrastive"),
        ("ntire2022=rlfx", "ntire2022=rlfn"),
        ("trainer.max_stepz=3", "trainer.max_steps"),
        ("modle=rlfn", "model"),
        ("optim.lrr=1", "optim.lr"),
    ],
)
def test_unknown_names_list_what_exists(override: str, expected: str) -> None:
    text = message(override)
    assert expected in text
    assert override.split("=")[0].split(".")[-1] in text
    assert "Traceback" not in text


def test_error_exits_without_traceback(tmp_path) -> None:
    train = Path(__file__).parents[2] / "train.py"
    done = subprocess.run(
        [sys.executable, str(train), "model=rlfm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: model=rlfm does not exist")
    assert len(done.stderr.strip().splitlines()) == 1
