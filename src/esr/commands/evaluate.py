"""What `python evaluate.py` does: a challenge, images to super-resolve, sensitivity, or a score.

Results go into a folder of their own: results.json with everything and its protocol, results.csv
with one line a validation set, images.csv with one line an image.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image

from esr.challenge import run as challenge
from esr.challenge.places import ours
from esr.console import bar, print_table, say
from esr.data.images import SUFFIXES, read_rgb
from esr.data.sets import list_images
from esr.errors import UserError
from esr.evaluation import measure
from esr.evaluation.measure import ValidationData
from esr.evaluation.reference import Bicubic, reference_network
from esr.evaluation.selection import Selection, choose_device, select, validation_data
from esr.evaluation.tiling import Tiling, Upscaler
from esr.files import write_csv, write_json
from esr.provenance import provenance
from esr.surgery.fuse import deploy_config
from esr.training.folder import fresh


def run(cfg: DictConfig) -> float | None:
    """Do what `cfg` asks for.

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
    cfg.data.store = "files"  # each image is read once or twice: packing them would not pay
    say(f"network   {chosen.name} x{chosen.scale}, {chosen.source}")
    if cfg.input is not None:
        upscale(cfg, chosen, _upscaler(cfg, chosen, device))
        return None
    if cfg.sensitivity:
        _sensitivity(cfg, chosen, device)
        return None
    return score(cfg, chosen, device)


def score(cfg: DictConfig, chosen: Selection, device: torch.device) -> float | None:
    """Measure a network beside bicubic (and its published row), print a table, write the files."""
    data = validation_data(cfg) if chosen.weights is not None else None
    folder = claim(cfg, chosen.name)
    facts = provenance(device)
    say(f"device    {facts['device']['name']} ({device}), float32")
    upscaler = _upscaler(cfg, chosen, device)
    rows: dict[str, dict[str, float]] = {}
    images: list[dict[str, Any]] = []
    if data is not None:
        for line in data.describe():
            say(line)
        place = device if upscaler.tiling is None else torch.device("cpu")
        saving = folder / "images" if cfg.save_images else None
        rows["bicubic"] = _fidelity("bicubic", Bicubic(chosen.scale), data, place, images, None)
        rows[chosen.name] = _fidelity(chosen.name, upscaler, data, place, images, saving)
    cost = measure.efficiency(
        chosen.net,
        device,
        (cfg.input_size[0], cfg.input_size[1]),
        cfg.counter,
        cfg.protocol,
        reference=reference_network(chosen.scale, device),
        seconds=cfg.seconds,
    )
    rows[chosen.name] = rows.get(chosen.name, {}) | cost.metrics()
    published = chosen.entry and chosen.entry.published
    if published and cfg.counter == "ntire2022":
        # Fidelity and time of the published row are of other images and devices.
        rows["published"] = ours(published, ("params_m", "flops_g", "acts_m", "convs"))
    sets = data.val_names if data else []
    # Where there are several sets, each score is shown with its set's name alone.
    twice = {f"val/{score}" for score in measure.SCORES} if len(sets) > 1 else set()
    shown = {name: {k: v for k, v in r.items() if k not in twice} for name, r in rows.items()}
    print_table(f"{chosen.name} x{chosen.scale}", shown)
    record = {
        "name": chosen.name,
        "scale": chosen.scale,
        "network": {
            "source": chosen.source,
            "weights": chosen.weights and str(chosen.weights),
            "sha256": chosen.sha256,
            "model": chosen.model,
        },
        "data": data and {"sets": sets, "checksum": data.checksum()},
        "metrics": rows[chosen.name],
        "bicubic": rows.get("bicubic"),
        "published": published and dict(published),
        "protocol": {
            "fidelity": f"8-bit rounding, border of {chosen.scale} pixels cropped, mean of images",
            "dtype": "float32",
            "tile": upscaler.tiling and str(upscaler.tiling),
            **cost.record(),
        },
        **facts,
    }
    write_json(folder / "results.json", record)
    write_csv(folder / "results.csv", _csv_rows(record, images))
    if images:
        write_csv(folder / "images.csv", images)
    if chosen.entry is not None and chosen.entry.note:
        say(f"note      {' '.join(chosen.entry.note.split())}")
    say(f"written to {folder}")
    return rows[chosen.name].get("val/psnr_rgb")


def upscale(cfg: DictConfig, chosen: Selection, upscaler: Upscaler) -> None:
    """Write the super-resolved images of a folder or a file; there is nothing to compare with."""
    source = Path(cfg.input).expanduser()
    if source.is_file():
        files = {source.stem: source}
    else:
        files = list_images(source, f"  {source}/NAME{{{','.join(sorted(SUFFIXES))}}}")
    folder = claim(cfg, chosen.name)
    with bar("images", len(files), stays=False) as advance:
        for name, path in files.items():
            pixels = np.ascontiguousarray(read_rgb(path).transpose(2, 0, 1)[None])
            lr = torch.from_numpy(pixels).float() / 255
            try:
                sr = upscaler(lr)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            _save(sr, folder / f"{name}.png")
            advance()
    say(f"{len(files)} images written to {folder}")


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
    return fresh(Path(cfg.output), name)


def _upscaler(cfg: DictConfig, chosen: Selection, device: torch.device) -> Upscaler:
    tiling = Tiling(cfg.tile, cfg.tile_overlap) if cfg.tile is not None else chosen.tiling
    return Upscaler(chosen.net, chosen.scale, device, tiling)


def _sensitivity(cfg: DictConfig, chosen: Selection, device: torch.device) -> None:
    """How much each layer minds losing channels, see `esr.surgery.sensitivity`."""
    from esr.surgery.sensitivity import report_sensitivity  # torch-pruning, too, only if needed

    if chosen.weights is None:
        raise UserError("sensitivity=true needs weights: ntire2022=ENTRY or checkpoint=PATH")
    data = validation_data(cfg)
    report_sensitivity(
        chosen.net,
        chosen.model and deploy_config(chosen.model),
        lambda net: measure.fidelity(net.to(device), data, device)["val/psnr_rgb"],
        claim(cfg, chosen.name),
    )


def _fidelity(
    name: str,
    net: torch.nn.Module,
    data: ValidationData,
    device: torch.device,
    images: list[dict[str, Any]],
    saving: Path | None,
) -> dict[str, float]:
    """Score the validation sets, noting each image in `images` and saving it where asked."""
    total = sum(len(loader) for loader in data.val_dataloader())
    with bar(name, total, stays=False) as advance:

        def note(image: measure.Image) -> None:
            images.append({"network": name, "set": image.set, "image": image.name, **image.scores})
            if saving is not None:
                _save(image.sr, saving / image.set / f"{image.name}.png")
            advance()

        return measure.fidelity(net, data, device, note)


def _save(sr: torch.Tensor, path: Path) -> None:
    """Write (1, 3, H, W) in [0, 1], clamped and rounded as for scoring."""
    levels = sr[0].float().clamp(0, 1).mul_(255).round_()  # in place: images can be large
    pixels = levels.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _csv_rows(record: dict[str, Any], images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a validation set; a line without fidelity where none was measured."""
    metrics, protocol = record["metrics"], record["protocol"]
    head = {"name": record["name"], "scale": record["scale"]}
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
    sets = record["data"]["sets"] if record["data"] else []
    lines = []
    for subset in sets:
        prefix = f"val/{subset}/" if len(sets) > 1 else "val/"
        scores = {key: metrics[prefix + key] for key in measure.SCORES}
        count = sum(i["set"] == subset and i["network"] == record["name"] for i in images)
        lines.append({**head, "set": subset, "images": count, **scores, **tail})
    return lines or [{**head, **tail}]
