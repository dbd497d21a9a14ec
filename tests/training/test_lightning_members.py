"""Private members of Lightning that the package uses: an upgrade may drop any of them, unsaid."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, WeightAveraging
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

import esr

TESTED = "2.6.6"
"""The version that all of them were found in. After an upgrade: run the tests, then raise it."""

MEMBERS = {
    "Trainer": {"_accelerator_connector"},
    "Trainer.fit_loop.epoch_loop": {"_batches_that_stepped"},
    "Trainer.fit_loop.epoch_loop.val_loop": {"_has_run"},
    "ModelCheckpoint": {
        "_monitor_candidates",
        "_save_last_checkpoint",
        "_should_save_on_train_epoch_end",
        "_should_skip_saving_checkpoint",
    },
    "WeightAveraging": {"_average_model", "_latest_update_step"},
    "CSVLogger": {"_experiment"},
    "ExperimentWriter": {"_check_log_dir_exists"},
}
SOURCES = sorted(Path(esr.__file__).parent.rglob("*.py"))


def of_lightning(path: str) -> bool:
    return path.partition(".")[0] in ("pytorch_lightning", "lightning_fabric")


def imports(tree: ast.Module) -> dict[str, str]:
    """Names that a file takes from Lightning, with their full paths."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return {name: path for name, path in found.items() if of_lightning(path)}


def bases(node: ast.ClassDef, imported: dict[str, str]) -> str:
    """The source of the classes in Lightning that a class of ours extends."""
    sources = []
    for base in map(ast.unparse, node.bases):
        first = base.partition(".")[0]
        if first in imported:
            path = base.replace(first, imported[first], 1)
            module, _, name = path.rpartition(".")
            parents = getattr(importlib.import_module(module), name).__mro__
            sources += [inspect.getsource(c) for c in parents if of_lightning(c.__module__)]
    return "\n".join(sources)


def defined(node: ast.AST) -> set[str]:
    """What is defined below a node: functions, classes, and attributes of `self`."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            found.add(inner.name)
        elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            found |= {inner.attr} if ast.unparse(inner.value) == "self" else set()
    return found


def used(text: str) -> set[str]:
    """Private members of Lightning that a file uses, replaces or assigns to."""
    tree = ast.parse(text)
    imported = imports(tree)
    if not imported:
        return set()
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = attributes - defined(tree)
    found |= {part for path in imported.values() for part in path.split(".")}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            source = bases(node, imported)
            found |= {n for n in defined(node) if re.search(rf"\b(self\.|def ){n}\b", source)}
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


@pytest.fixture
def owners(tmp_path: Path) -> dict[str, object]:
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, barebones=True, default_root_dir=str(tmp_path)
    )
    return {
        "Trainer": trainer,
        "Trainer.fit_loop.epoch_loop": trainer.fit_loop.epoch_loop,
        "Trainer.fit_loop.epoch_loop.val_loop": trainer.fit_loop.epoch_loop.val_loop,
        "ModelCheckpoint": ModelCheckpoint(),
        "WeightAveraging": WeightAveraging(),
        "CSVLogger": CSVLogger(tmp_path),
        "ExperimentWriter": ExperimentWriter,
    }


def test_the_installed_lightning_has_every_private_member(owners: dict[str, object]) -> None:
    lost = [
        f"{owner}.{name}"
        for owner, names in MEMBERS.items()
        for name in sorted(names)
        if not hasattr(owners[owner], name)
    ]
    assert not lost, f"pytorch-lightning {pl.__version__} (tested with {TESTED}) has no {lost}"


def test_every_private_member_is_listed() -> None:
    uses = {name: path.name for path in SOURCES for name in used(path.read_text())}
    listed = {name for names in MEMBERS.values() for name in names}
    unlisted = {name: file for name, file in uses.items() if name not in listed}
    assert not unlisted, f"say in MEMBERS whose they are: {unlisted}"
    assert not listed - uses.keys(), "nobody uses them any more"


def test_whatever_is_private_is_found() -> None:
    text = """
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

class Ours(CSVLogger):
    def __init__(self):
        self._mine = self._mine_too()
        self._prefix = ""

    def _mine_too(self): ...

    def _get_next_version(self): ...

def step(trainer: pl.Trainer):
    trainer.fit_loop._read
    trainer.fit_loop._written = 1
"""
    assert used(text) == {"_prefix", "_get_next_version", "_read", "_written"}
    assert not used(text.replace("pytorch_lightning", "another"))
