"""The zoo: what it lists, what it loads, and what it refuses and why."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from esr.errors import UserError
from esr.zoo import catalogue as zoo

NEVER_RELEASED = {"Express", "TeamInception", "cceNBgdd", "mju_mnu"}


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "ntire2022" / "weights"


def test_every_row_of_the_published_table_is_an_entry_in_its_order():
    entries = zoo.entries("ntire2022")
    assert [e.team for e in entries[:3]] == ["ByteESR", "NJU_Jet", "NEESR"]
    assert len({e.slug for e in entries}) == len(entries) == 45
    assert all(e.published and e.published["team"] == e.team for e in entries)
    assert {e.team for e in entries if not e.released} == NEVER_RELEASED


def test_entry_without_a_collection_is_the_challenges():
    assert zoo.entry("rlfn") == zoo.entry("ntire2022/rlfn")
    assert zoo.entry("papers/rlfn").team == "ByteDance"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ntire2022/rlfx",
            r"did you mean ntire2022/rlfn\? there are: aaln, .*rlfn",
        ),
        ("ntire1999/rlfn", "no collection 'ntire1999'; there are: ntire2022, papers"),
        ("ntire2022/express", "never released"),
    ],
)
def test_what_cannot_be_loaded_is_said(name, message):
    with pytest.raises(UserError, match=message):
        zoo.load(name)


def test_fresh_weights_without_an_official_file():
    net = zoo.load("ntire2022/hnct", weights=None)
    assert not net.training
    with pytest.raises(UserError, match="never released"):
        zoo.load("ntire2022/hnct")


def test_official_weights_from_the_folder_argument_or_the_environment(weights, monkeypatch):
    by_argument = zoo.load("ntire2022/clrfdn", folder=weights).state_dict()
    monkeypatch.setenv("ESR_WEIGHTS", str(weights))
    by_environment = zoo.load("ntire2022/clrfdn").state_dict()
    assert all(torch.equal(by_argument[key], by_environment[key]) for key in by_argument)


@pytest.mark.parametrize("slug", ["rlfn", "bsrn", "clrfdn"])  # flat, nested, with a prefix
def test_export_equals_the_official_file(slug, weights):
    entry = zoo.entry(f"ntire2022/{slug}")
    exported = zoo.export_official(zoo.load(entry.name, folder=weights), entry.name)
    content = torch.load(weights / str(entry.file), weights_only=True, map_location="cpu")
    official = content[entry.nesting] if entry.nesting else content
    assert exported.keys() == official.keys()
    assert all(torch.equal(exported[key], official[key]) for key in official)


def test_altered_file_is_refused(weights, tmp_path):
    file = tmp_path / "team04_rlfn.pth"
    shutil.copyfile(weights / file.name, file)
    with file.open("ab") as handle:
        handle.write(b"\0")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"not the official file of ntire2022/rlfn.*{digest}"):
        zoo.load("ntire2022/rlfn", folder=tmp_path)


def test_absent_file_without_an_address_says_where_it_belongs(tmp_path):
    digest = zoo.entry("papers/rlfn").sha256
    expected = rf"Put rlfn_paper_x4\.pth \(sha256 {digest}\) into {tmp_path}, .*ESR_WEIGHTS"
    with pytest.raises(UserError, match=expected):
        zoo.load("papers/rlfn", folder=tmp_path)


def test_file_of_another_architecture_is_refused_with_its_keys(weights):
    with pytest.raises(UserError, match=r"does not fit RLFN: .* missing: .* unexpected: "):
        zoo.load("ntire2022/rlfn", weights=weights / "imdn_baseline.pth")


def test_retrained_weights_in_the_official_format(tmp_path):
    net = zoo.load("ntire2022/rlfn", weights=None)
    torch.save(zoo.export_official(net, "ntire2022/rlfn"), tmp_path / "mine.pth")
    loaded = zoo.load("ntire2022/rlfn", weights=tmp_path / "mine.pth")
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded(x), net(x))
