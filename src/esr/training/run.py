"""One training run from configuration to result: announce, train, deploy, report."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import WandbLogger
from torch import nn

from esr import provenance
from esr.config import build, plain
from esr.console import print_table, say
from esr.errors import UserError
from esr.evaluation import measure, objective
from esr.evaluation.reference import Bicubic, reference_network
from esr.files import write_json
from esr.losses.weighted import WeightedLoss
from esr.models.state import network_state, transfer
from esr.surgery.fuse import deploy_config, fusable, load_plain
from esr.training.callbacks.checkpoint import BEST, LAST
from esr.training.datamodule import SRData
from esr.training.folder import RESULT, read_result
from esr.training.logger import forget_after
from esr.training.module import SuperResolution
from esr.training.processes import follows, require_fitting
from esr.zoo.deploy import save_deploy
from esr.zoo.open import load


def fit(
    cfg: DictConfig,  # a composed `train` configuration whose `run` is `folder`
    folder: Path,  # an existing run folder
    resume: bool = False,  # from its last checkpoint
    callbacks: Sequence[pl.Callback] = (),  # added to those of `cfg`
    alone: bool = True,  # no other job of a sweep runs in this process
) -> dict[str, float]:
    """Train what `cfg` describes and leave everything about it in `folder`.

    Returns the metrics of the deployed network by the keys of the log (`val/psnr_rgb`, ...).
    UserError where the configuration, the data or the weights do not fit.
    """
    _quieten()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data: SRData = build(cfg.data)
    data.prepare_data()
    data.setup("fit")
    objective.check(cfg.objective, data.val_names)
    net = build(cfg.model)
    if cfg.init:
        initialise(net, cfg.init)
    checkpoint = _last(folder) if resume else None
    module = _module(cfg, net)
    trainer = _trainer(cfg, callbacks, folder if resume else None)
    require_fitting(trainer, data.batch_sizes, alone)
    if checkpoint is not None and not follows():
        forget_after(folder, torch.load(checkpoint, weights_only=True)["global_step"])
    if trainer.is_global_zero:
        _record(cfg, folder, data, trainer)
        _announce(cfg, folder, data, net, trainer)
    try:
        if trainer.max_steps != 0:
            _train(trainer, module, data, checkpoint, folder)
        if trainer.is_global_zero:
            _result(cfg, folder, module, data, trainer)
    finally:  # the next job of a sweep needs a fresh run, whatever happened
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()
    trainer.strategy.barrier("result")
    return read_result(folder)


def _quieten() -> None:
    """Silence what Lightning says about itself; what concerns the user is said by this package."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*treespec.*",
        ".*exists and is not empty.*",
        ".*smaller than the logging interval.*",
        ".*recommended to use .*sync_dist=True.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def initialise(net: nn.Module, source: str) -> None:
    """Copy weights into `net`: of an entry (`ntire2022/rlfn`), a run folder or a file.

    UserError where the source does not exist, or its weights are of another architecture.
    """
    donor = load(source)
    if fusable(net) and not fusable(donor):
        load_plain(net, donor.state_dict())  # deploy weights continue in a training form
    else:
        transfer(donor.state_dict(), net, source)


def _last(folder: Path) -> Path:
    path = folder / "checkpoints" / LAST
    if not path.is_file():
        raise UserError(f"{folder} has no {path.relative_to(folder)}: there is nothing to resume")
    return path


def _module(cfg: DictConfig, net: nn.Module) -> SuperResolution:
    loss = WeightedLoss({name: build(term) for name, term in cfg.loss.items() if term is not None})
    loss.bind(net)
    if cfg.compile:
        net.compile()
    return SuperResolution(net, loss, build(cfg.optim), build(cfg.schedule))


def _trainer(cfg: DictConfig, more: Sequence[pl.Callback], resumed: Path | None) -> pl.Trainer:
    callbacks = [*(build(c) for c in cfg.callbacks.values() if c is not None), *more]
    configs = [plain(logger) for logger in (cfg.logger or {}).values() if logger is not None]
    # W&B names its folders by the run's id: under it, a resumed run goes on there, too.
    known = sorted(resumed.glob("wandb/*run-*-*")) if resumed else []
    for config in configs:
        if known and config["_target_"].endswith("WandbLogger"):
            config |= {"id": known[-1].name.rpartition("-")[2], "resume": "allow"}
    loggers = [build(config) for config in configs] or False
    return build({**plain(cfg.trainer), "callbacks": callbacks, "logger": loggers})


def _record(cfg: DictConfig, folder: Path, data: SRData, trainer: pl.Trainer) -> None:
    facts = provenance.provenance(trainer.strategy.root_device)
    facts |= {"seed": cfg.seed, "data": {"checksum": data.checksum(), "lines": data.describe()}}
    write_json(folder / "environment.json", facts)
    for logger in trainer.loggers:
        logger.log_hyperparams(plain(cfg))


def _announce(
    cfg: DictConfig, folder: Path, data: SRData, net: nn.Module, trainer: pl.Trainer
) -> None:
    """Say in a few lines what is about to happen."""
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    device = trainer.strategy.root_device
    where = f"{provenance.describe_device(device)['name']} ({device.type}"
    where += f" x{trainer.world_size})" if trainer.world_size > 1 else ")"
    lines = [
        f"network            {cfg.name} x{cfg.scale}, {parameters:.3f} M parameters while training",
        *data.describe(),
        f"training           {trainer.max_steps} steps, {' + '.join(cfg.loss)}, seed {cfg.seed}",
        f"device             {where}, precision {trainer.precision}",
        f"folder             {folder}",
    ]
    say("\n".join(lines))


def _train(
    trainer: pl.Trainer,
    module: SuperResolution,
    data: SRData,
    checkpoint: Path | None,
    folder: Path,
) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of a KeyboardInterrupt
        if trainer.is_global_zero:
            saved = (folder / "checkpoints" / LAST).exists()
            then = f"go on with: python train.py resume={folder}" if saved else "nothing was saved"
            say(f"interrupted at step {trainer.global_step}; {then}")
        raise


def _result(
    cfg: DictConfig, folder: Path, module: SuperResolution, data: SRData, trainer: pl.Trainer
) -> None:
    """Deploy the best weights, measure the file as anybody will load it, and tell."""
    data.whole_images()
    best = folder / "checkpoints" / BEST
    net = module.net
    if best.is_file():
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        net.load_state_dict(network_state(state))
    device = trainer.strategy.root_device
    path, config = folder / "deploy.safetensors", plain(cfg.model)
    save_deploy(net, config, path, {"scale": cfg.scale, "name": cfg.name})
    deployed = load(path, deploy_config(config)).to(device)
    reference = reference_network(cfg.scale, device)
    metrics = measure.fidelity(deployed, data, device)
    metrics |= measure.efficiency(deployed, device, reference=reference).metrics()
    baseline = measure.fidelity(Bicubic(cfg.scale).to(device), data, device)
    result = {"metrics": metrics, "bicubic": baseline, "steps": trainer.global_step}
    write_json(folder / RESULT, result)
    print_table(f"{cfg.name} x{cfg.scale}", {"bicubic": baseline, str(cfg.name): metrics})
    say(f"saved to {folder}")
