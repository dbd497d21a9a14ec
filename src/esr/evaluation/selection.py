"""Which network a command line means: a challenge entry, a checkpoint, or an architecture alone."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from esr.config import build, options, plain
from esr.errors import UserError
from esr.evaluation.tiling import Tiling
from esr.files import sha256
from esr.models.state import transfer
from esr.surgery.fuse import fuse
from esr.zoo import entries as zoo
from esr.zoo.open import open_checkpoint, published


@dataclass(frozen=True)
class Selection:
    """A network to score, in its deploy form.

    Args:
        name: for tables and file names.
        net: fused, in eval mode, on the CPU.
        scale: of the network.
        source: where it came from, in words.
        weights: the file of its weights; None where they are random.
        sha256: of that file.
        model: its configuration, as far as it is known.
        entry: the published network that it is.
        tiling: how the published evaluation cuts images, if it does.
    """

    name: str
    net: nn.Module
    scale: int
    source: str
    weights: Path | None = None
    sha256: str | None = None
    model: dict[str, Any] | None = None
    entry: zoo.Entry | None = None
    tiling: Tiling | None = None


def select(cfg: DictConfig) -> Selection:
    """The network that a composed `evaluate` configuration names.

    Raises:
        UserError: none is named, or its weights are absent, damaged or of another architecture.
    """
    entry = _entry(cfg)
    if cfg.checkpoint is not None:
        return _from_checkpoint(cfg, entry)
    if cfg.model is None:
        raise UserError(
            "no network was named. Type ntire2022=ENTRY (its official weights) or checkpoint=PATH "
            f"(yours or anybody's). Entries: {', '.join(options('ntire2022'))}"
        )
    net, config = build(cfg.model), plain(cfg.model)
    if entry is None or cfg.weights is None:
        name = str(cfg.name or (entry.slug if entry else config["_target_"].rpartition(".")[2]))
        source = "fresh weights: only its cost means something"
        return Selection(name, *_deployed(net), source, model=config, entry=entry)
    if cfg.weights == "official":
        file = zoo.official_file(entry, cfg.weights_folder)
        source = f"{entry.name}, official weights"
    else:
        file, source = Path(cfg.weights), f"{entry.name}, weights of {cfg.weights}"
    transfer(zoo.read_official(entry, file), net, str(file))
    name = str(cfg.name or entry.slug)
    digest = sha256(file)
    tiling = _tiling(entry)
    return Selection(name, *_deployed(net), source, file, digest, config, entry, tiling)


def choose_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `gpu`, `cuda` or `cuda:1` means.

    Raises:
        UserError: it is none of these, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device("cuda" if name == "gpu" else name)
    except RuntimeError:
        raise UserError(f"device={name} is unknown; type auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"device={name}: PyTorch sees {count} CUDA devices here; type device=cpu")
    return device


def _from_checkpoint(cfg: DictConfig, entry: zoo.Entry | None) -> Selection:
    path = Path(cfg.checkpoint).expanduser()
    if not path.exists() and str(cfg.checkpoint) in {found.name for found in published()}:
        collection, _, slug = str(cfg.checkpoint).partition("/")
        raise UserError(f"checkpoint={cfg.checkpoint} is an entry: type {collection}={slug}")
    found = open_checkpoint(path, cfg.model)
    own = next((e for e in published() if e.sha256 == found.sha256), entry)
    return Selection(
        str(cfg.name or _name(path)),
        *_deployed(found.net),
        found.source,
        found.path,
        found.sha256,
        found.model,
        own,
        _tiling(own),
    )


def _name(path: Path) -> str:
    """A file's own name; for the files of a run the run's, without its date."""
    path = path.resolve()
    if path.stem in ("best", "last", "deploy"):
        path = path.parent
        path = path.parent if path.name == "checkpoints" else path
    stem = path.name if path.is_dir() else path.stem
    return re.sub(r"^\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_(?=.)", "", stem)


def _deployed(net: nn.Module) -> tuple[nn.Module, int]:
    return fuse(net).eval().requires_grad_(False), int(getattr(net, "scale"))  # noqa: B009


def _entry(cfg: DictConfig) -> zoo.Entry | None:
    if cfg.entry is None:
        return None
    same = [e for e in published() if (e.slug, e.team) == (cfg.entry.slug, cfg.entry.team)]
    return same[0] if same else None


def _tiling(entry: zoo.Entry | None) -> Tiling | None:
    """As the challenge's script did it: overlapping outputs are averaged."""
    if entry is None or entry.tile is None:
        return None
    return Tiling(int(entry.tile["size"]), int(entry.tile["overlap"]), "average")
