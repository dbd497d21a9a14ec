"""What the README says can be typed composes, and its figures are those of the result file."""

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

from esr.config import compose

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "benchmarks" / "results" / "ntire2022_set5_cpu.json"
COMMANDS = re.findall(r"^(?:\.venv/bin/)?python (train|evaluate)\.py ?([^#\n]*)", README, re.M)


@pytest.mark.parametrize(("script", "typed"), COMMANDS)
def test_every_command_composes(script: str, typed: str) -> None:
    words = shlex.split(typed)
    if "--help" in words or "--config-dir" in words:
        return
    swept = "-m" in words
    choices = [_choices(word) if swept else [word] for word in words if word != "-m"]
    for overrides in itertools.product(*choices):
        compose(script, overrides)


def _choices(word: str) -> list[str]:
    key, _, value = word.partition("=")
    return [word] if value.startswith("[") else [f"{key}={choice}" for choice in value.split(",")]


def test_the_commands_were_found() -> None:
    assert len(COMMANDS) > 15


def test_the_table_is_the_result_file() -> None:
    rows = {row["slug"]: row for row in json.loads(RESULTS.read_text())["rows"]}
    shown = re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.M)
    assert {slug for slug, _ in shown} == rows.keys()
    for slug, cells in shown:
        assert cells == line(rows[slug]), slug


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
