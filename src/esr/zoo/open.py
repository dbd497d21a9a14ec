"""From a path to a network, whoever wrote the file; and the file of a deployed network of ours.

A deploy file is safetensors whose metadata carries the network's configuration, so it loads with
nothing else. A file that says nothing about its network is compared with the published ones, by
checksum and then by the names and shapes of its tensors; otherwise the user names the network.
"""

import importlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from esr.config import build, experiments_dir, options, plain
from esr.errors import UserError
from esr.models.state import mismatch, shorten, size
from esr.surgery.fuse import deploy_config, fuse
from esr.zoo import entries as zoo
from esr.zoo import files as weights_file
from esr.zoo.files import Tensors, Weights, spellings

IN_RUN = ("deploy.safetensors", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
"""What is taken from a run folder, in this order."""

SUFFIXES = {".safetensors", ".ckpt", ".pth", ".pt", ".bin"}

RESOLVED = "resolved.yaml"

TARGET = re.compile(r"(esr\.models|torch\.nn)(\.\w+)+")
"""What a configuration that comes with weights may build."""


@dataclass(frozen=True)
class Loaded:
    """A network and where it came from.

    Args:
        net: in eval mode, on the CPU, in the form in which it was saved.
        path: the file.
        sha256: of the file.
        source: in words, such as `ntire2022/rlfn (same checksum)`.
        model: its configuration (`_target_` and values).
    """

    net: nn.Module
    path: Path
    sha256: str
    source: str
    model: dict[str, Any] | None


def load(path: Path | str, model: Mapping[str, Any] | None = None) -> nn.Module:
    """The network that `path` holds, in eval mode on the CPU: RGB NCHW in [0, 1] in and out.

    Args:
        path: a run folder, a deploy file, a Lightning checkpoint of ours, or a foreign .pth.
        model: configuration of the network (`_target_` and values, as in conf/model), for files
            that do not say and are no published ones.

    Raises:
        UserError: see `open_checkpoint`.
    """
    return open_checkpoint(path, model).net


def open_checkpoint(path: Path | str, model: Mapping[str, Any] | None = None) -> Loaded:
    """Like `load`, and say what was found.

    Raises:
        UserError: nothing lies there; the file is damaged or would run code; the network is not
            known, or the tensors do not fit it (missing, unexpected and misshapen names are
            listed).
    """
    file = find(Path(path))
    found = weights_file.read(file)
    where = f" ({found.nesting})" if found.nesting else ""
    if model is not None:
        config = plain(model)
        net = build(config)
        net.load_state_dict(_fitting(found, net, published))
        return _loaded(net, found, f"given as model={config['_target_']}{where}", config)
    config = found.about.get("model") or _run_config(file)
    if config is not None:
        _check_targets(config, file)
        net = build(config)
        net.load_state_dict(_fitting(found, net))
        return _loaded(net, found, f"its own configuration{where}", config)
    net, how = recognise(found)
    return _loaded(net, found, f"{how}{where}", None)


def save_deploy(
    net: nn.Module,
    model_cfg: Mapping[str, Any],
    path: Path | str,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the fused network as safetensors that carry their own configuration.

    The file appears complete or not at all.

    Args:
        net: training or deploy form; it is left as it is.
        model_cfg: the configuration that built it.
        path: the file to write.
        metadata: more to keep beside the configuration (scale, name, metrics); JSON values.

    Raises:
        UserError: the configuration does not build the fused network, so nobody could load it.
    """
    path = Path(path)
    config = deploy_config(plain(model_cfg))
    state = fuse(net).state_dict()
    with torch.random.fork_rng(devices=[]):  # building must not move the run's random numbers
        twin = build(config)
    problem = mismatch(state, twin.state_dict())
    if problem:
        raise UserError(f"the configuration of {path.name} does not build its network: {problem}")
    about = {**(metadata or {}), "model": config}
    # Copies, because safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    temporary = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(tensors, temporary, metadata={"format": "pt", "esr": json.dumps(about)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def find(path: Path) -> Path:
    """The file to read: `path`, or what matters in the run folder `path`.

    Raises:
        UserError: there is no such path, or the folder holds no weights.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        beside = sorted(p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES)
        there = f" In {path.parent} lie: {shorten(beside)}" if beside else ""
        raise UserError(f"there is no checkpoint {path}.{there}")
    for name in (*IN_RUN, *(Path(inner).name for inner in IN_RUN)):
        if (path / name).is_file():
            return path / name
    inside = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.suffix in SUFFIXES)
    if len(inside) == 1:
        return path / inside[0]
    there = f"Name one of: {shorten(inside)}" if inside else f"Looked for {', '.join(IN_RUN)}"
    raise UserError(f"{path} is not the folder of a finished run. {there}")


def _loaded(net: nn.Module, found: Weights, source: str, model: dict[str, Any] | None) -> Loaded:
    return Loaded(net.eval(), found.path, found.sha256, source, model)


def _fitting(
    found: Weights, net: nn.Module, entries: Callable[[], Iterable[zoo.Entry]] = tuple
) -> Tensors:
    """The file's tensors under the network's names.

    Raises:
        UserError: under no name do they fit; the differences of the closest one are listed.
    """
    wanted = net.state_dict()
    closest, most = found.tensors, -1
    for tensors in namings(found.tensors, entries):
        common = len(tensors.keys() & wanted.keys())
        if common > most:
            closest, most = tensors, common
        if not mismatch(tensors, wanted):
            return tensors
    problem = mismatch(closest, wanted)
    raise UserError(f"{found.path} does not fit {type(net).__name__}: {problem}")


def _run_config(file: Path) -> dict[str, Any] | None:
    """The network's configuration in the run folder that a checkpoint lies in."""
    for folder in list(file.resolve().parents)[:2]:
        if (folder / RESOLVED).is_file():
            return plain(OmegaConf.select(OmegaConf.load(folder / RESOLVED), "model"))
    return None


def _check_targets(config: Any, file: Path) -> None:
    """Refuse a configuration found beside weights that names anything but networks.

    Building calls what `_target_` names, so a file from elsewhere could otherwise run anything.
    """
    if isinstance(config, Mapping):
        if "_target_" in config and not _is_network_part(str(config["_target_"])):
            raise UserError(
                f"{file} wants {config['_target_']} built, which is no network of esr. If you "
                "trust it, name the network yourself: model=NAME"
            )
        for value in config.values():
            _check_targets(value, file)
    elif isinstance(config, list | tuple):
        for value in config:
            _check_targets(value, file)


def _is_network_part(target: str) -> bool:
    if not TARGET.fullmatch(target):
        return False
    module, _, name = target.rpartition(".")
    try:
        part = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return isinstance(part, type) and issubclass(part, nn.Module)


# Which published network a file of weights is of, when the file does not say.
#
# By its checksum; else by the names and shapes of its tensors, translated by each entry's table.


def namings(
    tensors: Tensors, entries: Callable[[], Iterable[zoo.Entry]] = tuple
) -> Iterator[Tensors]:
    """The tensors under every name that they may be meant by: as they are, then as published."""
    variants = list(spellings(tensors))
    yield from variants
    for entry in entries():
        yield from (ours for variant in variants if (ours := _ours(entry, variant)))


def _ours(entry: zoo.Entry, tensors: Tensors) -> Tensors | None:
    try:
        return zoo.to_ours(entry, tensors)
    except UserError:  # the table is not reversible on these names: they are of another network
        return None


@cache
def published() -> tuple[zoo.Entry, ...]:
    """Every released entry of every collection; read once, because there are many files."""
    folders = sorted(path.name for path in experiments_dir().iterdir() if path.is_dir())
    return tuple(entry for name in folders for entry in zoo.entries(name) if entry.released)


def recognise(found: Weights) -> tuple[nn.Module, str]:
    """The published network that the tensors are of, and how it was recognised.

    Raises:
        UserError: none, or several that differ in what their shapes do not show.
    """
    candidates = published()
    for entry in candidates:
        if entry.sha256 == found.sha256:
            return zoo.load(entry.name, weights=found.path), f"{entry.name}, by its checksum"
    fitting: dict[str, nn.Module] = {}
    values = sum(tensor.numel() for tensor in found.tensors.values())
    for entry in candidates:
        if not _plausible(entry, values):
            continue
        net = zoo.load(entry.name, weights=None)
        wanted = net.state_dict()
        for tensors in namings(found.tensors, lambda entry=entry: [entry]):
            if not mismatch(tensors, wanted):
                net.load_state_dict(tensors)
                fitting[entry.name] = net
                break
    if len(fitting) == 1:
        name, net = fitting.popitem()
        return net, f"{name}, by the names and shapes of its tensors"
    some = ", ".join(f"{k} {size(v)}" for k, v in list(found.tensors.items())[:4])
    does = (
        f"fits {', '.join(fitting)}, which differ in what shapes do not show"
        if fitting
        else "does not say of which network it is, nor is it a published one"
    )
    raise UserError(
        f"{found.path} {does} ({len(found.tensors)} tensors: {some}, ...). "
        f"Type model=NAME. Known: {', '.join(options('model'))}"
    )


def _plausible(entry: zoo.Entry, values: int) -> bool:
    """Whether a file of so many numbers can be of the entry: building all of them takes long."""
    try:
        published = float((entry.published or {})["params_m"]) * 1e6
    except (KeyError, ValueError):
        return True
    return abs(values - published) < 0.03 * published


# Where the teacher of a distillation comes from, in a configuration.


def teacher(source: str | None) -> nn.Module:
    """Load a network with its weights.

    Args:
        source: a challenge entry with its official weights ("ntire2022/rfdn"), a run folder, or a
            file of weights. In a recipe the name of an earlier stage stands for its folder.

    Raises:
        UserError: none is named, or there is no such thing.
    """
    if not source:
        raise UserError(
            "the distillation loss needs a teacher: loss.NAME.teacher.source=ntire2022/rfdn, a run "
            "folder, a file of weights or, in a recipe, an earlier stage"
        )
    if not Path(source).exists() and source.count("/") == 1:
        return zoo.load(source)
    return load(source)
