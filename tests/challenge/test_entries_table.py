"""docs/ntire2022.md says what the code does: a stale table fails here."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from esr.zoo import catalogue as zoo

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("entries", ROOT / "benchmarks" / "entries.py")
assert SPEC is not None
assert SPEC.loader is not None
generator = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generator)

ENTRIES = zoo.entries("ntire2022")


def table() -> dict[str, dict[str, str]]:
    """The rows of the page by team."""
    lines = [line for line in generator.PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def test_there_is_a_row_for_every_row_of_the_published_table() -> None:
    assert list(table()) == [entry.team for entry in ENTRIES]
    assert len(ENTRIES) == 45
    assert sum(bool(entry.rename) for entry in ENTRIES) == 42


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.slug)
def test_names_files_and_figures_are_those_of_the_code(entry: zoo.Entry) -> None:
    row, code = table()[entry.team], generator.described(entry, generator.network(entry))
    assert {column: row[column] for column in code} == code
    for target in re.findall(r"\((\.\./[^)]*)\)", " ".join(row.values())):
        assert (generator.PAGE.parent / target).is_file()


def test_every_comparison_is_within_its_bar() -> None:
    official = json.loads((ROOT / "tests" / "reference" / "psnr.json").read_text())
    for entry in ENTRIES:
        row = table()[entry.team]
        if row["Seeded"] != "-":
            assert float(row["Seeded"]) <= 5
        loaded = row["Weights"].removeprefix("loaded, ")
        if entry.slug in official:
            assert float(loaded) <= 1e-5
        else:
            assert loaded == ("not at hand" if entry.released else "not released")
