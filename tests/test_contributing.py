"""What CONTRIBUTING.md shows is enough, also outside the package; README shows what is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import esr
from esr.build import construct
from esr.errors import UserError
from esr.files import write_tensors
from esr.surgery.prune import Prune
from tiny import COMMAND, TINY

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"   ```{language}\n(.*?)   ```", PAGE, re.S)
    assert found
    return "\n".join(line.removeprefix("   ") for line in found[1].splitlines()) + "\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with mynet.py and model/mynet.yaml, as somebody has who has no checkout."""
    (tmp_path / "mynet.py").write_text(block("python"))
    (tmp_path / "model").mkdir()
    yaml = block("yaml").replace("esr.models.mynet", "mynet")
    (tmp_path / "model" / "mynet.yaml").write_text(yaml)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    return tmp_path


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_example_is_complete_and_prunes(own: Path, scale: int) -> None:
    config = {"_target_": "mynet.MyNet", "scale": scale, "width": 8}
    net = construct(config)
    assert net(torch.rand(1, 3, 7, 9)).shape == (1, 3, 7 * scale, 9 * scale)
    smaller, values = Prune(widths={"width": 4})(net, config, None)
    assert values["width"] == 4
    assert smaller(torch.rand(1, 3, 7, 9)).shape == (1, 3, 7 * scale, 9 * scale)


def test_a_class_of_ones_own_trains_and_is_scored_but_not_for_a_stranger(own: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess:
        environment = {key: v for key, v in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [*words, "--config-dir", str(own)],
            cwd=own,
            env=environment,
            capture_output=True,
            text=True,
        )

    tiny = [override for override in TINY if not override.startswith("model")]
    done = run(*COMMAND, "model=mynet", "trainer.max_steps=2", "run=first", *tiny)
    assert done.returncode == 0, done.stderr
    assert (own / "first" / "deploy.safetensors").is_file()
    evaluate = [COMMAND[0], str(ROOT / "evaluate.py"), "seconds=0", "folder=scores"]
    done = run(*evaluate, "checkpoint=first", "model=mynet")
    assert done.returncode == 0, done.stderr
    done = run(*evaluate, "checkpoint=first", "folder=again")
    assert done.returncode == 1
    assert "wants mynet.MyNet built" in done.stderr
    assert "type model=NAME" in done.stderr


def test_only_networks_are_built_for_a_file(tmp_path: Path) -> None:
    about = {"model": {"_target_": "esr.models.rlfn.RLFN", "conv": {"_target_": "os.getcwd"}}}
    write_tensors(tmp_path / "theirs.safetensors", {"x": torch.zeros(1)}, about)
    with pytest.raises(UserError, match=r"wants os\.getcwd built"):
        esr.load(tmp_path / "theirs.safetensors")


def test_the_packages_face(tmp_path: Path) -> None:
    from esr import zoo
    from esr.challenge import rank
    from esr.data.resize import imresize
    from esr.metrics.complexity import complexity

    net = zoo.load("ntire2022/rlfn", weights=None)
    assert complexity(net).params == 317_218
    assert rank([{"ave_time_ms": 2.0}, {"ave_time_ms": 1.0}])[1]["main"] == 1
    pixels = torch.rand(64, 80, 3).mul(255).byte().numpy()
    assert imresize(pixels, 1 / 4).shape == (16, 20, 3)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    found = esr.score(net, tmp_path)
    assert found.keys() == {"psnr_rgb", "psnr_y", "ssim_y"}
    assert {entry.slug for entry in zoo.entries("ntire2022")} > {"rlfn", "imdn"}
