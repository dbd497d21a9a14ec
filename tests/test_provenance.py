"""What results say about where they come from."""

import json
import subprocess
from pathlib import Path

import torch

from esr import files, provenance


def run(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True
    )


def test_git_tells_the_commit_and_what_changed(tmp_path: Path):
    run(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("1")
    run(tmp_path, "add", "a.py")
    run(tmp_path, "commit", "-q", "-m", "first")
    clean = provenance.git(tmp_path)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False

    (tmp_path / "a.py").write_text("2")
    (tmp_path / "new.py").write_text("3")
    changed = provenance.git(tmp_path)
    assert changed["commit"] == clean["commit"]
    assert changed["dirty"] is True
    assert changed["changed"] == ["a.py", "new.py"]


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path):
    assert provenance.git(tmp_path) == {"commit": None, "dirty": None, "changed": []}


def test_everything_fits_into_json():
    found = json.loads(json.dumps(provenance.provenance("cpu")))
    assert found["versions"]["torch"] == torch.__version__
    assert found["device"]["type"] == "cpu"
    assert found["device"]["name"]
    assert found["date"].endswith("+00:00")


def test_sha256_of_a_known_file(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(tmp_path / "abc") == digest
