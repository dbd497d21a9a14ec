"""The one door to networks: an entry, a run folder or anybody's file becomes a network.

`init=`, a teacher, a stage's `init`, `checkpoint=`, the commands and Python all come through here.
What a file says about its network is only built if it is a network of this package or of the
user's own conf/: building calls what `_target_` names, and a file may come from a stranger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from esr.build import Config, construct, network_class, targets
from esr.config import collections, own_networks, plain
from esr.errors import UserError, closest
from esr.models.state import mismatch, shorten
from esr.zoo import catalogue, files
from esr.zoo.files import Tensors, Weights
from esr.zoo.recognition import namings, recognise

IN_RUN = ("deploy.safetensors", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
"""What is taken from a run folder, in this order."""

SUFFIXES = {".safetensors", ".ckpt", ".pth", ".pt", ".bin"}

RESOLVED = "resolved.yaml"


@dataclass(frozen=True)
class Loaded:
    """A network and where it came from."""

    net: nn.Module  # in eval mode, on the CPU, in the form in which it was saved
    path: Path
    sha256: str  # of the file
    source: str  # in words, such as `ntire2022/rlfn, by its checksum`
    model: Config | None  # its configuration; None where only the file was recognised


def load(source: Path | str, model: Mapping[str, Any] | None = None) -> nn.Module:
    """The network that `source` names, in eval mode on the CPU: RGB NCHW in [0, 1] in and out.

    `source` is a published network with its official weights (`ntire2022/rlfn`), a run folder, a
    deploy file, a Lightning checkpoint of ours, or a foreign .pth. `model` is the configuration of
    the network (`_target_` and values, as in conf/model), for files that do not say and are no
    published ones.

    Raises:
        UserError: see `open_network`.
    """
    return open_network(source, model).net


def open_network(
    source: Path | str,
    model: Mapping[str, Any] | None = None,
    folder: Path | str | None = None,
) -> Loaded:
    """Like `load`, and say what was found; `folder` is where official files lie.

    Raises:
        UserError: nothing is called so; the file is absent, damaged or would run code; the network
            is not known, or the tensors do not fit it (missing, unexpected and misshapen names are
            listed).
    """
    path = Path(source).expanduser()
    if path.exists() or str(source).partition("/")[0] not in collections():
        return open_file(path, model)
    entry = catalogue.entry(str(source))
    config = plain(model) if model is not None else entry.config()
    file = catalogue.official_file(entry, folder)
    net = catalogue.with_weights(entry, config, file)
    return Loaded(net, file, str(entry.sha256), f"{entry.name}, official weights", config)


def open_file(path: Path, model: Mapping[str, Any] | None = None) -> Loaded:
    """The network of a run folder or a file, see `open_network`."""
    file = find(path)
    found = files.read(file)
    where = f" ({found.nesting})" if found.nesting else ""
    config = plain(model) or found.about.get("model") or _run_config(file)
    if config is None:
        net, how = recognise(found)
    else:
        how = f"given as model={config['_target_']}" if model else "its own configuration"
        if not model:
            _require_trust(config, file)
        net = construct(config)
        net.load_state_dict(_fitting(found, net, published=bool(model)))
    return Loaded(net.eval(), file, found.sha256, f"{how}{where}", config)


def teacher(source: str | None) -> nn.Module:
    """The teacher of a distillation; in a recipe an earlier stage's name stands for its folder.

    Raises:
        UserError: none is named, or there is no such thing.
    """
    if not source:
        raise UserError(
            "the distillation loss needs a teacher: loss.NAME.teacher.source=ntire2022/rfdn, a run "
            "folder, a file of weights or, in a recipe, an earlier stage"
        )
    return load(source)


def find(path: Path) -> Path:
    """The file to read: `path`, or what matters in the run folder `path`.

    Raises:
        UserError: there is no such path, or the folder holds no weights.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"there is no checkpoint {path}.{_beside(path)}")
    for name in (*IN_RUN, *(Path(inner).name for inner in IN_RUN)):
        if (path / name).is_file():
            return path / name
    inside = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.suffix in SUFFIXES)
    if len(inside) == 1:
        return path / inside[0]
    there = f"Name one of: {shorten(inside)}" if inside else f"Looked for {', '.join(IN_RUN)}"
    raise UserError(f"{path} is not the folder of a finished run. {there}")


def _beside(path: Path) -> str:
    """What may have been meant by a path that does not exist."""
    entries = catalogue.published()
    names = {e.slug: e.name for e in reversed(entries)}  # of one slug the first collection's
    names |= {e.name: e.name for e in entries}
    if meant := closest(str(path), names, 0.8):
        return f" Did you mean the entry {names[meant]}?"
    there = [p for p in path.parent.glob("*") if p.suffix in SUFFIXES or (p / RESOLVED).is_file()]
    near = closest(path.name, (p.name for p in there))
    files = shorten(sorted((p.name for p in there), key=lambda name: (name != near, name)))
    return (
        f" In {path.parent} lie: {files or 'no weights'}. Type a run folder, a file of weights "
        "or a published network, named as ntire2022/rlfn"
    )


def _fitting(found: Weights, net: nn.Module, published: bool) -> Tensors:
    """The file's tensors under the network's names; with `published` also by the entries' tables.

    Raises:
        UserError: under no name do they fit; the differences of the closest one are listed.
    """
    wanted, tried = net.state_dict(), []
    for tensors in namings(found.tensors, published):
        if not mismatch(tensors, wanted):
            return tensors
        tried.append(tensors)
    problem = mismatch(max(tried, key=lambda t: len(t.keys() & wanted.keys())), wanted)
    raise UserError(f"{found.path} does not fit {type(net).__name__}: {problem}")


def _run_config(file: Path) -> Config | None:
    """The network's configuration in the run folder that a checkpoint lies in."""
    for folder in list(file.resolve().parents)[:2]:
        if (folder / RESOLVED).is_file():
            # Values were worked out when it was written: nothing in it is resolved again.
            content = OmegaConf.to_container(OmegaConf.load(folder / RESOLVED), resolve=False)
            return content.get("model") if isinstance(content, dict) else None
    return None


def _require_trust(config: Any, file: Path) -> None:
    """Refuse a configuration found beside weights that names anything but known networks."""
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise UserError(f"{file}: what it says of its network names none. Type model=NAME")
    for name in targets(config):
        if network_class(name) is None and name not in own_networks():
            raise UserError(
                f"{file} wants {name} built, which is no network of esr and is not named in conf/. "
                f"If you trust it, keep it as conf/model/NAME.yaml (_target_: {name}), or type "
                "model=NAME"
            )
