"""What a command line means: which network, which validation images, which device."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from esr.build import Config, construct
from esr.config import build, plain
from esr.errors import UserError
from esr.evaluation.measure import ValidationData
from esr.evaluation.tiling import Tiling, published_tiling
from esr.files import sha256
from esr.surgery.fuse import fuse
from esr.zoo import catalogue
from esr.zoo.open import Loaded, open_network


@dataclass(frozen=True)
class Selection:
    """A network to score, in its deploy form."""

    name: str  # for tables and file names
    net: nn.Module  # fused, in eval mode, on the CPU
    scale: int
    source: str  # where it came from, in words
    weights: Path | None = None  # the file of its weights; None where they are random
    sha256: str | None = None  # of that file
    model: Config | None = None  # its configuration, as far as it is known
    entry: catalogue.Entry | None = None  # the published network that it is
    tiling: Tiling | None = None  # how the published evaluation cuts images, if it does


def select(cfg: DictConfig) -> Selection:
    """The network that a composed `evaluate` configuration names.

    Raises:
        UserError: none is named, or its weights are absent, damaged or of another architecture.
    """
    entry = catalogue.entry(cfg.entry) if cfg.entry is not None else None
    config = plain(cfg.model)
    if config is None and entry is not None:
        config = entry.config(cfg.scale)
    if cfg.checkpoint is not None:
        found = open_network(cfg.checkpoint, config, cfg.weights_folder)
        own = next((e for e in catalogue.published() if e.sha256 == found.sha256), entry)
        return _selection(str(cfg.name or _name(Path(cfg.checkpoint))), found, own)
    if config is None:
        raise UserError(
            "no network was named. Type ntire2022=ENTRY (its official weights) or checkpoint=PATH "
            f"(yours or anybody's). Entries: {', '.join(e.name for e in catalogue.published())}"
        )
    name = str(cfg.name or (entry.slug if entry else config["_target_"].rpartition(".")[2]))
    if entry is None or cfg.weights is None:
        net, scale = _deployed(construct(config, "model"))
        source = "fresh weights: only its cost means something"
        return Selection(name, net, scale, source, model=config, entry=entry)
    if cfg.weights == "official":
        return _selection(name, open_network(entry.name, config, cfg.weights_folder), entry)
    file = Path(cfg.weights)
    net = catalogue.with_weights(entry, config, file)
    source = f"{entry.name}, weights of {file}"
    return _selection(name, Loaded(net, file, sha256(file), source, config), entry)


def validation_data(cfg: DictConfig) -> ValidationData:
    """The validation sets of `cfg.data`, prepared without anything to train on.

    Raises:
        UserError: images are absent, damaged, or do not fit the scale.
    """
    data = build(cfg.data)
    data.prepare_validation()
    return data


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


def _selection(name: str, found: Loaded, entry: catalogue.Entry | None) -> Selection:
    net, scale = _deployed(found.net)
    tiling = published_tiling(entry.tile) if entry else None
    return Selection(
        name, net, scale, found.source, found.path, found.sha256, found.model, entry, tiling
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
