"""Published networks: challenge entries and papers, their official weights and published figures.

A collection is a folder of `experiments/`; its `collection.yaml` says what is true of all of it. An
entry is one file there. Of that file only `entry:`, the choice of the model and its values are read
here; the rest is the recipe, which train.py composes.
"""

import csv
import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from yaml import YAMLError

from esr.build import Config, construct
from esr.config import COLLECTION, collections, experiments_dir, model_config
from esr.data.download import download
from esr.errors import UserError, closest
from esr.files import sha256
from esr.models.state import transfer
from esr.zoo import files
from esr.zoo.names import rename_all

WEIGHTS_FOLDER = "ESR_WEIGHTS"
"""Environment variable that names the folder of official files, ~/.cache/esr/weights without it."""

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Entry:
    """A published network: what `entry:` of its file says, and which model it is."""

    collection: str  # folder of `experiments/`
    slug: str  # name within the collection
    team: str  # row of the collection's published.csv, or the authors
    model: str = ""  # file of conf/model/; empty for a row without a network
    values: Mapping[str, Any] = field(default_factory=dict)  # where they differ from that file
    file: str | None = None  # name of the official weights; None if they were never released
    sha256: str | None = None  # of that file
    nesting: str | None = None  # key under which the tensors lie in the file; None: at the top
    prefix: str = ""  # put before every key in the file, such as "module."
    # Pairs of published and our names, see `esr.zoo.names`. In the file, a name in place of a pair
    # stands for the table of that entry.
    rename: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()  # published keys (with wildcards) that the network never uses
    unused_params: int = 0  # how many parameters those are; published counts include them
    tile: Mapping[str, int] | None = None  # `size`, `overlap` in pixels, if officially in tiles
    note: str | None = None  # worth knowing, such as figures that differ from the published ones
    published: Mapping[str, str] | None = None  # the row of published.csv; None outside challenges

    @property
    def name(self) -> str:
        """What `load` takes: `collection/slug`."""
        return f"{self.collection}/{self.slug}"

    @property
    def released(self) -> bool:
        """Whether the weights were published."""
        return self.file is not None

    def config(self, scale: int = 4, model: str | None = None) -> Config:
        """The network's configuration; `model` is another file of conf/model for its tensors.

        Raises:
            UserError: there is no such model, or only a published row of this entry.
        """
        if not self.model:
            raise UserError(f"{self.name} was never released: there is only its published row")
        return model_config(model or self.model, scale, **self.values)


def about(collection: str) -> dict[str, Any]:
    """What `collection.yaml` says: `title`, `address` of official files, `challenge` (its rules).

    Nothing where there is no such file: a collection of one's own needs none.

    Raises:
        UserError: there is no such collection, or its file is damaged.
    """
    path = _folder(collection) / f"{COLLECTION}.yaml"
    if not path.is_file():
        return {}
    content, known = _yaml(path), ("title", "address", "challenge")
    if "title" not in content:
        raise UserError(f"{path}: no title; known are: {', '.join(known)}")
    if unknown := [key for key in content if key not in known]:
        raise UserError(f"{path}: unknown key {unknown[0]}; known are: {', '.join(known)}")
    return dict(content)


def entries(collection: str = "ntire2022") -> list[Entry]:
    """All entries of a collection in the order of published.csv, rows without a network included.

    Raises:
        UserError: there is no such collection, or an entry's file is wrong.
    """
    folder = _folder(collection)
    rows = _published(folder)
    found = [_read(path, rows) for path in _files(folder)]
    teams = {entry.team for entry in found}
    found += [
        Entry(collection, re.sub(r"\W+", "_", team.lower()), team, published=row)
        for team, row in rows.items()
        if team not in teams
    ]
    order = list(rows)
    return sorted(found, key=lambda e: order.index(e.team) if e.team in rows else len(order))


def entry(name: str) -> Entry:
    """The entry called `collection/slug`; a slug alone is that of the first collection with it.

    Raises:
        UserError: there is none.
    """
    collection, _, slug = name.rpartition("/")
    places = [collection] if collection else collections()
    for place in places:
        folder = _folder(place)
        if (path := folder / f"{slug}.yaml") in _files(folder):
            return _read(path, _published(folder))
    known = {found.slug: found for place in places for found in entries(place)}
    if slug not in known:
        meant = closest(slug, known)
        hint = f" did you mean {known[meant].name}?" if meant else ""
        raise UserError(f"no entry '{name}';{hint} there are: {', '.join(sorted(known))}")
    return known[slug]


@functools.cache
def published() -> tuple[Entry, ...]:
    """Every released entry of every collection; read once, because there are many files."""
    return tuple(found for name in collections() for found in entries(name) if found.released)


def load(
    name: str,  # `collection/slug`, such as `ntire2022/rlfn`
    weights: str | Path | None = "official",  # or a file in the official format, None: fresh ones
    model: str | None = None,  # another configuration of conf/model/ for the same tensors
    folder: str | Path | None = None,  # see `weights_folder`
) -> nn.Module:
    """The network of an entry in evaluation mode, RGB in [0, 1], not clamped unless it clamps.

    Raises:
        UserError: unknown name, weights that are absent, altered or of another architecture.
    """
    found = entry(name)
    config = found.config(model=model)
    if weights is None:
        return construct(config, "model").eval()
    path = official_file(found, folder) if weights == "official" else Path(weights)
    return with_weights(found, config, path)


def with_weights(found: Entry, config: Config, path: Path) -> nn.Module:
    """The network of a configuration with the tensors of a file in the entry's official format.

    Raises:
        UserError: the file is absent or damaged, or its tensors do not fit.
    """
    net: nn.Module = construct(config, "model")
    transfer(read_official(found, path), net, str(path))
    return net.eval()


def official_file(found: Entry, folder: str | Path | None = None) -> Path:
    """The official weights: from the folder, else downloaded into it; the checksum is compared.

    Raises:
        UserError: not released, not to be had, or altered.
    """
    if found.file is None or found.sha256 is None:
        raise UserError(
            f"the weights of {found.name} were never released; "
            "evaluate.py can measure its cost alone, weights=null"
        )
    path = weights_folder(folder) / found.file
    if not path.is_file():
        _download(found, path)
    digest = sha256(path)
    if digest != found.sha256:
        raise UserError(
            f"{path} is not the official file of {found.name}: its sha256 is {digest}, "
            f"expected {found.sha256}. Remove it to have it downloaded again"
        )
    return path


def at_hand(found: Entry, folder: str | Path | None = None) -> bool:
    """Whether the official weights lie in the folder already."""
    return found.file is not None and (weights_folder(folder) / found.file).is_file()


def read_official(found: Entry, path: Path) -> State:
    """The tensors of a file in the official format under our names, unused ones left out.

    Raises:
        UserError: absent, damaged, or not a file of tensors alone.
    """
    tensors = files.read(path).tensors
    return to_ours(found, {key.removeprefix(found.prefix): tensors[key] for key in tensors})


def to_ours(found: Entry, official: Mapping[str, Any]) -> dict[str, Any]:
    """Published keys (without `prefix`) under our names; keys listed as unused are left out."""
    used = {
        key: value
        for key, value in official.items()
        if not any(fnmatchcase(key, pattern) for pattern in found.unused)
    }
    return rename_all(used, found.rename)


def export_official(net: nn.Module, name: str) -> State:
    """The network's weights under the names of the official file (inside its nesting).

    Tensors that the network never uses are not in it: `unused` of the entry lists them.
    """
    found = entry(name)
    official = rename_all(net.state_dict(), found.rename, backward=True)
    return {found.prefix + key: value for key, value in official.items()}


def _folder(collection: str) -> Path:
    folder = experiments_dir() / collection
    if not collection or not folder.is_dir():
        raise UserError(f"no collection '{collection}'; there are: {', '.join(collections())}")
    return folder


def _files(folder: Path) -> list[Path]:
    """The files of entries; a recipe that stands alone has no `entry:`."""
    paths = sorted(path for path in folder.glob("*.yaml") if path.stem != COLLECTION)
    return [path for path in paths if _yaml(path).get("entry")]


def _read(path: Path, rows: Mapping[str, Mapping[str, str]]) -> Entry:
    content = _yaml(path)
    values = {str(key): value for key, value in content["entry"].items() if value is not None}
    derived = ("collection", "model", "values", "published")
    known = [field.name for field in fields(Entry) if field.name not in derived]
    wrong = [f"unknown key entry.{key}" for key in sorted(values.keys() - set(known))]
    if values.get("slug") != path.stem or "team" not in values:
        wrong.append(f"no entry.team or slug {path.stem}")
    if wrong:
        raise UserError(f"{path}: {wrong[0]}; known are: {', '.join(known)}")
    chosen = [d["override /model"] for d in content.get("defaults", []) if "override /model" in d]
    if len(chosen) != 1:
        raise UserError(f"{path}: expected `- override /model: NAME` in its defaults, once")
    values["rename"] = tuple(_rules(path.parent, values.get("rename", [])))
    values["unused"] = tuple(values.get("unused", []))
    values |= {"model": chosen[0], "values": content.get("model", {})}
    return Entry(collection=path.parent.name, published=rows.get(values["team"]), **values)


@functools.cache
def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is no proper yaml: {' '.join(str(error).split())}") from None
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _rules(folder: Path, rules: list[str | list[str]]) -> Iterator[tuple[str, str]]:
    """The pairs of a rename table, the tables that it names put in their place."""
    for rule in rules:
        if isinstance(rule, str):
            yield from _rules(folder, _yaml(folder / f"{rule}.yaml")["entry"]["rename"])
        else:
            theirs, ours = rule
            yield theirs, ours


def _published(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "published.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {row["team"]: row for row in csv.DictReader(file)}


def weights_folder(folder: str | Path | None = None) -> Path:
    """Where official files lie: `folder`, else the environment variable's, else a cache."""
    cache = Path.home() / ".cache" / "esr" / "weights"
    return Path(folder or os.environ.get(WEIGHTS_FOLDER) or cache).expanduser()


def _download(found: Entry, path: Path) -> None:
    here = (
        f"Put {found.file} (sha256 {found.sha256}) into {path.parent}, or say where it lies: "
        f"{WEIGHTS_FOLDER}=FOLDER before the command, or weights_folder=FOLDER in evaluate.py"
    )
    address = about(found.collection).get("address")
    if address is None:
        place = _folder(found.collection) / f"{COLLECTION}.yaml"
        raise UserError(
            f"{path} is absent and there is no public address of it. {here}. What `address: "
            f"https://.../` in {place} names is searched, too"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock")):  # processes take turns
            download(f"{address}{found.file}", path, sha256=found.sha256)
    except OSError as error:
        raise UserError(f"cannot download {address}{found.file}: {error}. {here}") from error
