"""The house stands: imports run down the stairs, never up or across; tensors know no framework."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from esr import config

SRC = Path(__file__).parents[1] / "src" / "esr"

STAIRS = [
    {"errors", "files"},
    {"build", "console", "provenance"},
    {"config", "models", "losses", "metrics", "data"},
    {"surgery"},
    {"zoo"},
    {"evaluation"},
    {"challenge", "training"},
    {"recipes", "sweeps"},
    {"commands"},
]
"""From the ground up. A room uses those below it, never one of its own floor."""

FLOOR = {room: floor for floor, rooms in enumerate(STAIRS) for room in rooms}
PURE = {"models", "losses", "metrics", "data", "surgery"}
FRAMEWORKS = {"pytorch_lightning", "lightning_fabric", "hydra", "omegaconf", "wandb"}
FILES = sorted(path for path in SRC.rglob("*.py") if path != SRC / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, at its top or inside a function, but not for types."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_a_floor_and_few_files_lie_loose() -> None:
    assert {room_of(path) for path in FILES} == FLOOR.keys()
    assert len(list(SRC.glob("*.py"))) <= 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_imports_run_down(path: Path) -> None:
    room = room_of(path)
    for name in imported(path):
        top, _, rest = name.partition(".")
        assert room not in PURE or top not in FRAMEWORKS, f"{room} is plain tensors: {name}"
        other = rest.partition(".")[0]
        if top == "esr" and other in FLOOR and other != room:
            assert FLOOR[other] < FLOOR[room], f"{path.name} ({room}) reaches up to {name}"


@pytest.mark.parametrize("room", sorted({room_of(p) for p in FILES} - {"errors", "build"}))
def test_a_room_has_no_circle(room: str) -> None:
    """Its files can be put in an order in which each imports only earlier ones."""
    files = {
        ".".join(["esr", *path.relative_to(SRC).with_suffix("").parts]): path
        for path in FILES
        if room_of(path) == room
    }
    needs = {
        module: {other for other in files for name in imported(path) if _within(name, other)}
        - {module}
        for module, path in files.items()
    }
    while free := [module for module, others in needs.items() if not others]:
        for module in free:
            needs.pop(module)
            for others in needs.values():
                others.discard(module)
    assert not needs, f"these import each other: {', '.join(needs)}"


def _within(name: str, module: str) -> bool:
    """Whether importing `name` loads `module`; a package's door counts when it is imported from."""
    return name == module or name.rpartition(".")[0] == module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_a_file_is_one_thing(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_plain_tensors_load_no_framework() -> None:
    """Whoever takes a network, a loss or a metric alone waits for torch and nothing else."""
    program = (
        "import sys, esr.models.rlfn, esr.losses.pixel, esr.metrics.complexity, "
        "esr.data.resize, esr.surgery.fuse; "
        f"print(*sorted({FRAMEWORKS} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_core_needs_no_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without published networks and recipes, one's own still composes, builds and is opened."""
    monkeypatch.setattr(config, "experiments_dir", lambda: tmp_path / "experiments")
    from esr.evaluation.reference import reference_network
    from esr.zoo.deploy import save_deploy
    from esr.zoo.open import load

    cfg = config.compose("train", ["model=rlfn", "model.width=8", "model.depth=1"])
    net = config.build(cfg.model)
    assert config.collections() == []
    save_deploy(net, config.plain(cfg.model), tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors").state_dict().keys() == net.state_dict().keys()
    assert reference_network(2)[0] == "rlfn"
