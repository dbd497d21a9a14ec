"""Run folders: claimed once, never shared, and complete enough to repeat or resume a run.

RUN/config.yaml       what was composed: `--config-dir RUN --config-name config` repeats it
RUN/resolved.yaml     the same with every value worked out
RUN/overrides.yaml    what was typed
RUN/environment.json  commit, versions, device, seed, checksum of the data
RUN/metrics.csv       what was logged
RUN/checkpoints/      best.ckpt, last.ckpt
RUN/deploy.safetensors, RUN/result.json, RUN/images/
"""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from esr.errors import UserError
from esr.files import read_json
from esr.training.processes import follows, started_together

CONFIG = "config.yaml"
RESULT = "result.json"
_RUN_VARIABLE = "ESR_RUN"  # how the processes of one distributed run agree on the folder

_HYDRA = {
    "run": {"dir": "."},
    "output_subdir": None,
    "sweep": {"dir": "${output}/${now:%Y-%m-%d_%H-%M-%S}_sweep", "subdir": "${hydra:job.num}"},
}
_DEFAULTS = [
    "_self_",
    {"override hydra/job_logging": "stdout"},
    {"override hydra/hydra_logging": "none"},
]


def claim(cfg: DictConfig, folder: Path | None = None, again: bool = False) -> Path:
    """Make this run's folder and note it in `cfg.run`.

    A sweep's job hands its `folder` in; else `cfg.run` decides, or `cfg.output` and `cfg.name`.
    UserError where it already holds a run, unless it may begin `again`: one that never came to a
    checkpoint.
    """
    if follows():
        cfg.run = os.environ.get(_RUN_VARIABLE) or cfg.run
    path = folder or (Path(cfg.run) if cfg.run else None)
    if path is None:
        starter, processes = started_together()
        nodes = OmegaConf.select(cfg, "trainer.num_nodes", default=1)
        if processes > 1 or nodes > 1:
            raise UserError(
                f"{starter or f'trainer.num_nodes={nodes}'}: all processes start at once and must "
                "agree on the folder, type run=FOLDER"
            )
        assert not follows(), f"the first process names its folder in {_RUN_VARIABLE}"
        path = fresh(Path(cfg.output), cfg.name)
    elif not follows():
        # A run that was refused before its first step has left nothing to lose.
        begun = any((path / name).exists() for name in ("metrics.csv", "checkpoints", RESULT))
        if begun and not again:
            raise UserError(
                f"{path} already holds a run, which is never overwritten. "
                f"Go on with it: resume={path}; or choose another run=FOLDER"
            )
        path.mkdir(parents=True, exist_ok=True)
    cfg.run = str(path)
    if not follows():
        os.environ[_RUN_VARIABLE] = cfg.run
    return path


def fresh(output: Path, name: str) -> Path:
    """Make a new folder `output/<date>_<time>_<name>`; two of the same second differ."""
    stem = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"
    for number in range(1, 1000):
        path = output / (stem if number == 1 else f"{stem}_{number}")
        try:
            path.mkdir(parents=True)  # fails if another process was faster
            return path
        except FileExistsError:
            continue
    raise UserError(f"cannot make a run folder in {output}: a thousand of this second exist")


def read_result(path: Path) -> dict[str, float]:
    """The metrics of a finished run; those that were not finite are NaN."""
    metrics = read_json(path / RESULT)["metrics"]
    return {key: float(value) for key, value in metrics.items()}


def write_config(cfg: DictConfig, path: Path, overrides: Sequence[str]) -> None:
    """Write the configuration so that the run can be repeated from its folder alone."""
    body = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(body, dict)
    body |= {"name": str(cfg.name), "run": None, "resume": None}
    OmegaConf.save(
        OmegaConf.create({"defaults": _DEFAULTS, "hydra": _HYDRA, **body}), path / CONFIG
    )
    OmegaConf.save(cfg, path / "resolved.yaml", resolve=True)
    OmegaConf.save(OmegaConf.create(list(overrides)), path / "overrides.yaml")


def read_config(path: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a run folder, with values changed as typed (`key=value`).

    UserError where no run lies there, or a key is unknown.
    """
    if not (path / CONFIG).is_file():
        raise UserError(f"{path} is not a run folder: it has no {CONFIG}")
    cfg = OmegaConf.load(path / CONFIG)
    assert isinstance(cfg, DictConfig)
    for key in ("defaults", "hydra"):
        cfg.pop(key, None)
    OmegaConf.set_struct(cfg, True)
    for override in overrides:
        key, _, value = override.partition("=")
        if OmegaConf.select(cfg, key) is None and "." not in key and key not in cfg:
            raise UserError(
                f"unknown key {key} in {path / CONFIG}. Known: {', '.join(map(str, cfg))}"
            )
        if isinstance(OmegaConf.select(cfg, key), DictConfig):
            raise UserError(
                f"{override}: a resumed run keeps its {key}; only values can be changed"
            )
        OmegaConf.update(cfg, key, OmegaConf.create(f"v: {value}").v)
    return cfg
