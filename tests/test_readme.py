"""What the README says can be typed composes, and its figures are those of the result file."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode

from esr.config import compose, conf_dir
from esr.sweeps import grid, space

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "benchmarks" / "results" / "ntire2022_set5_cpu.json"
COMMANDS = re.findall(r"^(?:\.venv/bin/)?python (train|evaluate)\.py ?([^#\n]*)", README, re.M)


@pytest.mark.parametrize(("script", "typed"), COMMANDS)
def test_every_command_composes(script: str, typed: str) -> None:
    words = shlex.split(typed)
    if "--help" in words or "--config-dir" in words:
        return
    for overrides in trials(words):
        compose(script, overrides)


def trials(words: list[str]) -> list[list[str]]:
    """What Hydra would run: the combinations of a grid, one point of a search, or the words."""
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    if "-m" in words:
        typed = [word for word in words if word != "-m"]
        return grid.combinations(
            SimpleNamespace(context=SimpleNamespace(config_loader=loader)), typed
        )
    if any(word.startswith("sweep=") for word in words):
        cfg = loader.load_configuration("train", words, run_mode=RunMode.MULTIRUN)
        fixed, found = space.split(words, cfg.sweep.space, loader)
        return [[*fixed, *space.corner(found)]]
    return [words]


def test_the_commands_were_found() -> None:
    assert len(COMMANDS) > 15


def test_the_table_is_the_result_file() -> None:
    rows = {row["slug"]: row for row in json.loads(RESULTS.read_text())["rows"]}
    shown = re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.M)
    assert {slug for slug, _ in shown} == rows.keys()
    for slug, cells in shown:
        assert cells == line(rows[slug]), slug


def test_the_pruning_table_is_the_result_file() -> None:
    found = json.loads((RESULTS.parent / "pruning_cpu.json").read_text())["importances"]
    section = README.partition("\n## Prune\n")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^\| ([\w ,]+?) \| ([\d., ]+ \| [\d., ]+) \|$", section, re.M))
    names = {
        "loss change": ["loss_change"],
        "random, three seeds": ["random", "random_1", "random_2"],
    }
    for title, cells in shown.items():
        rows = [found[name] for name in names.get(title, [title.lower()])]
        figures = [
            ", ".join(f"{r[k]:.2f}" for r in rows) for k in ("psnr_y_pruned", "psnr_y_tuned")
        ]
        assert cells == " | ".join(figures), title
    assert len(shown) == 5


def line(row: dict) -> str:
    return " | ".join(
        [
            f"{row['psnr_rgb']:.2f} / {row['psnr_y']:.2f}",
            f"{row['params_m']:.3f}",
            f"{row['flops_g']:.2f}",
            f"{row['acts_m']:.2f}",
            str(row["convs"]),
        ]
    )
