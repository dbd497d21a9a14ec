"""What `python evaluate.py` does: score one network on images, or only super-resolve them.

Results go into a folder of their own: results.json with everything and its protocol, results.csv
with one line a validation set, images.csv with one line an image.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from esr.challenge import run as challenge
from esr.config import build
from esr.console import print_table
from esr.data.images import SUFFIXES, read_rgb
from esr.data.sets import list_images
from esr.errors import UserError
from esr.evaluation import measure as evaluation
from esr.evaluation.reference import Bicubic
from esr.evaluation.selection import Selection, choose_device, select
from esr.evaluation.tiling import Tiling, Upscaler
from esr.files import write_csv, write_json
from esr.provenance import provenance
from esr.surgery.fuse import deploy_config
from esr.training import folder as runs
from esr.training.datamodule import SRData

console = Console()


def run(cfg: DictConfig) -> float | None:
    """Score what `cfg` names, print a table and write the files.

    Returns:
        PSNR (RGB) on the first validation set; None where nothing was scored.

    Raises:
        UserError: the network, the data or a value does not fit.
    """
    if cfg.challenge is not None:
        return challenge.run(cfg)
    device = choose_device(cfg.device)
    chosen = select(cfg)
    cfg.scale = chosen.scale
    tiling = Tiling(cfg.tile, cfg.tile_overlap) if cfg.tile is not None else chosen.tiling
    upscaler = Upscaler(chosen.net, chosen.scale, device, tiling)
    _say(f"network   {chosen.name} x{chosen.scale}, {chosen.source}")
    if cfg.input is not None:
        _super_resolve(cfg, chosen, upscaler)
        return None

    scored = chosen.weights is not None
    data = _data(cfg) if scored else None
    folder = claim(cfg, chosen.name)
    facts = provenance(device)
    _say(f"device    {facts['device']['name']} ({device}), float32")
    if cfg.sensitivity:
        _sensitivity(chosen, data, device, folder)
        return None
    rows: dict[str, dict[str, float]] = {}
    images: list[dict[str, Any]] = []
    if data is not None:
        for line in data.describe():
            _say(line)
        place = device if tiling is None else torch.device("cpu")
        saving = folder / "images" if cfg.save_images else None
        with _exact_arithmetic():
            rows["bicubic"] = _fidelity("bicubic", Bicubic(chosen.scale), data, place, images, None)
            rows[chosen.name] = _fidelity(chosen.name, upscaler, data, place, images, saving)
    cost = evaluation.efficiency(
        chosen.net,
        device,
        (cfg.input_size[0], cfg.input_size[1]),
        cfg.counter,
        cfg.protocol,
        reference=evaluation.reference_network(chosen.scale, device),
        seconds=cfg.seconds,
    )
    rows[chosen.name] = rows.get(chosen.name, {}) | cost.metrics()
    if chosen.entry is not None and chosen.entry.published and cfg.counter == "ntire2022":
        rows["published"] = _published(chosen)
    _print(f"{chosen.name} x{chosen.scale}", rows, data.val_names if data else [])

    record = {
        "name": chosen.name,
        "scale": chosen.scale,
        "network": {
            "source": chosen.source,
            "weights": chosen.weights and str(chosen.weights),
            "sha256": chosen.sha256,
            "model": chosen.model,
        },
        "data": data and {"sets": data.val_names, "checksum": data.checksum()},
        "metrics": rows[chosen.name],
        "bicubic": rows.get("bicubic"),
        "published": chosen.entry and chosen.entry.published and dict(chosen.entry.published),
        "protocol": {
            "fidelity": f"8-bit rounding, border of {chosen.scale} pixels cropped, mean of images",
            "dtype": "float32",
            "tile": _describe(upscaler.tiling),
            **cost.record(),
        },
        **facts,
    }
    write_json(folder / "results.json", record)
    write_csv(folder / "results.csv", _csv_rows(record, images))
    if images:
        write_csv(folder / "images.csv", images)
    if chosen.entry is not None and chosen.entry.note:
        _say(f"note      {' '.join(chosen.entry.note.split())}")
    _say(f"written to {folder}")
    return rows[chosen.name].get("val/psnr_rgb")


def _sensitivity(
    chosen: Selection, data: SRData | None, device: torch.device, folder: Path
) -> None:
    """How much each layer minds losing channels, see `esr.surgery.sensitivity`."""
    from esr.surgery import sensitivity  # needs torch-pruning, which is optional

    if data is None:
        raise UserError("sensitivity=true needs weights: ntire2022=ENTRY or checkpoint=PATH")
    sensitivity.run(
        chosen.net,
        chosen.model and deploy_config(chosen.model),
        lambda net: evaluation.fidelity(net.to(device), data, device)["val/psnr_rgb"],
        folder,
    )


def claim(cfg: DictConfig, name: str) -> Path:
    """Make the folder of this result; an existing result is never overwritten.

    Raises:
        UserError: `cfg.folder` already holds one.
    """
    if cfg.folder is not None:
        folder = Path(cfg.folder)
        if (folder / "results.json").exists():
            raise UserError(f"{folder} already holds results; choose another folder=FOLDER")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return runs.fresh(Path(cfg.output), name)


def to_image(sr: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [0, 1] to uint8 HWC, clamped and rounded as for scoring."""
    levels = sr[0].float().clamp(0, 1).mul_(255).round_()  # in place: images can be large
    return levels.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def _data(cfg: DictConfig) -> SRData:
    cfg.data.store = "files"  # each image is read once or twice: packing them would not pay
    data: SRData = build(cfg.data)
    for images in data.val_sets.values():  # not `prepare_data`: nothing to train on is needed
        images.prepare(data.scale)
    data.setup("validate")
    return data


def _fidelity(
    name: str,
    net: nn.Module,
    data: SRData,
    device: torch.device,
    images: list[dict[str, Any]],
    saving: Path | None,
) -> dict[str, float]:
    """Score the validation sets, noting each image in `images` and saving it where asked."""
    found = evaluation.Fidelity(data.val_names, data.scale, device)
    loaders = data.val_dataloader()
    with _bar(name, sum(len(loader) for loader in loaders)) as advance:
        for index, (subset, loader) in enumerate(zip(data.val_names, loaders, strict=True)):
            for image in evaluation.images(net, loader, found, index, device):
                images.append({"network": name, "set": subset, "image": image.name, **image.scores})
                if saving is not None:
                    _save(image.sr, saving / subset / f"{image.name}.png")
                advance()
    return found.compute()


def _super_resolve(cfg: DictConfig, chosen: Selection, upscaler: Upscaler) -> None:
    """Write the super-resolved images of a folder or a file; there is nothing to compare with."""
    source = Path(cfg.input).expanduser()
    if source.is_file():
        files = {source.stem: source}
    else:
        files = list_images(source, f"  {source}/NAME{{{','.join(sorted(SUFFIXES))}}}")
    folder = claim(cfg, chosen.name)
    with _bar("images", len(files)) as advance:
        for name, path in files.items():
            pixels = np.ascontiguousarray(read_rgb(path).transpose(2, 0, 1)[None])
            lr = torch.from_numpy(pixels).float() / 255
            try:
                sr = upscaler(lr)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            _save(sr, folder / f"{name}.png")
            advance()
    _say(f"{len(files)} images written to {folder}")


def _save(sr: torch.Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_image(sr)).save(path)


def _print(title: str, rows: dict[str, dict[str, float]], sets: list[str]) -> None:
    """One table; where there are several sets, each score with its set's name."""
    unnamed = {f"val/{score}" for score in evaluation.SCORES} if len(sets) > 1 else set()
    shown = {name: {k: v for k, v in r.items() if k not in unnamed} for name, r in rows.items()}
    print_table(title, shown)


def _key(score: str, subset: str, sets: list[str]) -> str:
    return f"val/{subset}/{score}" if len(sets) > 1 else f"val/{score}"


def _published(chosen: Selection) -> dict[str, Any]:
    """The published row under our keys; fidelity and time are of other images and devices."""
    row = (chosen.entry and chosen.entry.published) or {}
    keys = ("params_m", "flops_g", "acts_m", "convs")
    return {f"eff/{key}": row[key] for key in keys if row.get(key)}


def _csv_rows(record: dict[str, Any], images: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a validation set; a line without fidelity where none was measured."""
    metrics, protocol = record["metrics"], record["protocol"]
    tail = {key: value for key, value in metrics.items() if key.startswith("eff/")}
    tail |= {
        "counter": protocol["complexity"]["counter"],
        "input_size": "x".join(map(str, protocol["complexity"]["size"])),
        "runtime_protocol": (protocol["runtime"] or {}).get("protocol"),
        "dtype": protocol["dtype"],
        "tile": protocol["tile"],
        "device": record["device"]["name"],
        "weights": record["network"]["weights"],
        "sha256": record["network"]["sha256"],
        "commit": record["git"]["commit"],
        "dirty": record["git"]["dirty"],
        "torch": record["versions"]["torch"],
        "date": record["date"],
    }
    head = {"name": record["name"], "scale": record["scale"]}
    sets = record["data"]["sets"] if record["data"] else []
    lines = []
    for subset in sets:
        scores = {key: metrics[_key(key, subset, sets)] for key in evaluation.SCORES}
        count = sum(i["set"] == subset and i["network"] == record["name"] for i in images)
        lines.append({**head, "set": subset, "images": count, **scores, **tail})
    return lines or [{**head, **tail}]


def _describe(tiling: Tiling | None) -> str | None:
    if tiling is None:
        return None
    return f"{tiling.size}, overlap {tiling.overlap}, {tiling.blend}"


@contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """Real float32: TF32, which convolutions use on a GPU by default, moves the third decimal."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@contextmanager
def _bar(name: str, total: int) -> Iterator[Any]:
    """A progress bar; the value is called once an image."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(name, total=total)
        yield lambda: progress.advance(task)


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
