"""What is mistyped, absent or damaged in a collection is one line: meant, there, to be typed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import esr
from esr import config
from esr.challenge import edition, editions, rules
from esr.errors import UserError
from esr.training.run import initialise
from esr.zoo import catalogue
from esr.zoo.open import open_network

COLLECTION = Path("ntire2022", "collection.yaml")
ENTRY = """# @package _global_
defaults:
  - override /model: rlfn

entry:
  slug: own
  team: us
  file: own.pth
  sha256: abc
"""


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of experiments/ to damage; what was read of the real one is forgotten, and back."""
    folder = Path(shutil.copytree(config.experiments_dir(), tmp_path / "experiments"))
    for module in (config, catalogue, rules):
        monkeypatch.setattr(module, "experiments_dir", lambda: folder)
    monkeypatch.chdir(tmp_path)
    _forget()
    yield folder
    _forget()


def _forget() -> None:
    for cached in (catalogue._yaml, catalogue.published, edition):
        cached.cache_clear()


def message(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 1
    return text


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("ntire2022/TYPO", ["no entry 'ntire2022/TYPO'", "there are: aaln, ", ", scet"]),
        ("ntire2022/rlfx", ["did you mean ntire2022/rlfn?"]),
        ("paper/rlfn", ["no checkpoint paper/rlfn", "the entry papers/rlfn?"]),
        ("rlfn", ["no checkpoint rlfn", "the entry ntire2022/rlfn?"]),
        ("runs/TYPO", ["no checkpoint runs/TYPO", "In runs lie: mine, theirs", "ntire2022/rlfn"]),
        ("runs/mina", ["In runs lie: mine, theirs"]),
        ("runs/their", ["In runs lie: theirs, mine"]),  # the most alike first
        ("TYPO.pth", ["no checkpoint TYPO.pth", "In . lie: here.pth", "Type a run folder, a file"]),
        ("nowhere/TYPO.pth", ["In nowhere lie: no weights", "Type a run folder, a file"]),
    ],
)
def test_what_is_not_there_is_said_by_every_door(experiments: Path, source, parts) -> None:
    for run in ("mine", "theirs"):
        Path("runs", run).mkdir(parents=True)
        Path("runs", run, "resolved.yaml").touch()
    Path("here.pth").touch()
    net = catalogue.load("ntire2022/rlfn", weights=None)
    for door in (open_network, esr.load, lambda name: initialise(net, name)):
        with pytest.raises(UserError) as caught:
            door(source)
        assert all(part in message(caught) for part in parts), message(caught)


def test_a_collection_of_ones_own_needs_no_collection_yaml(experiments: Path) -> None:
    (experiments / "mine").mkdir()
    (experiments / "mine" / "own.yaml").write_text(ENTRY)
    assert "mine" in config.collections()
    assert "mine" not in editions()
    assert catalogue.entry("mine/own").team == "us"
    assert catalogue.load("mine/own", weights=None)
    with pytest.raises(UserError) as caught:
        open_network("mine/own", folder=experiments / "weights")
    for part in (
        f"{experiments / 'weights' / 'own.pth'} is absent",
        f"Put own.pth (sha256 abc) into {experiments / 'weights'}",
        "weights_folder=FOLDER",
        f"`address: https://.../` in {experiments / 'mine' / 'collection.yaml'}",
    ):
        assert part in message(caught)


def test_an_official_file_that_cannot_be_fetched(experiments: Path, monkeypatch) -> None:
    def offline(*_, **__) -> None:
        raise OSError("no network")

    monkeypatch.setattr(catalogue, "download", offline)
    with pytest.raises(UserError) as caught:
        open_network("ntire2022/rlfn", folder=experiments / "weights")
    assert "cannot download https://" in message(caught)
    assert "Put team04_rlfn.pth (sha256 ca81b7" in message(caught)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title: [", "is no proper yaml: .*line 1"),
        ("", "no title; known are: title, address, challenge"),
        ("title: x\nadress: y", "unknown key adress; known are: title, address, challenge"),
        ("title: x\nchallenge: 3", "challenge: expected keys with values, found 3"),
        (("gpu:", "gpux:"), "'gpux'; did you mean gpu\\?. It takes: .*counter, floors, note"),
        (("main: {rule", "main: {rull"), r"tracks.main: .*'rull'; did you mean rule\?"),
        (("main: {rule: ranks", "main: {rule: rank"), "'rank' is unknown.*: ranks, score, value"),
        (("metrics: [ave_time_ms]", "metrics: [time]"), "no metric 'time'; .*: ave_time_ms, "),
        (("psnr_test: {nominal", "psnr_test: {nominl"), r"psnr_test: .*did you mean nominal\?"),
        (("  baseline:", "  basline:"), r"'basline'; did you mean baseline\?"),
    ],
)
def test_a_damaged_collection(experiments: Path, text: str | tuple[str, str], expected) -> None:
    path = experiments / COLLECTION
    path.write_text(text if isinstance(text, str) else path.read_text().replace(*text))
    with pytest.raises(UserError, match=expected) as caught:
        edition("ntire2022")
    assert str(COLLECTION) in message(caught)
    assert len(catalogue.entries("ntire2022")) == 45  # the networks are there all the same


def test_a_damaged_entry_is_named(experiments: Path) -> None:
    for text, expected in {
        ENTRY.replace("slug: own", "slug: [own"): "own.yaml is no proper yaml",
        ENTRY.replace("team", "teem"): "own.yaml: unknown key entry.teem; known are: slug, team",
        ENTRY.replace("slug: own", "slug: other"): "own.yaml: no entry.team or slug own",
        ENTRY.replace("override /model", "override /loss"): "expected `- override /model: NAME`",
    }.items():
        _forget()
        (experiments / "papers" / "own.yaml").write_text(text)
        with pytest.raises(UserError, match=expected) as caught:
            open_network("papers/own")
        assert message(caught)
