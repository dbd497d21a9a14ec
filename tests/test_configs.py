"""Every yaml of conf/ and experiments/ composes, and what it names can be built."""

import inspect

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from esr.build import target
from esr.config import COLLECTION, build, compose, conf_dir, experiments_dir, model_config, options

GROUPS = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
LISTS = ("loss", "logger", "callbacks")
TRAIN = [
    (group, name)
    for group in GROUPS
    for name in options(group)
    if group not in ("challenge", "protocol")
]
RECIPES = [
    (folder.name, path.stem)
    for folder in sorted(experiments_dir().iterdir())
    for path in sorted(folder.glob("*.yaml"))
    if path.stem != COLLECTION
]


def composed(group: str, name: str, *more: str) -> DictConfig:
    chosen = f"{group}=[{name}]" if group in LISTS else f"{group}={name}"
    return compose("train", [chosen, "run=unused", *more])


@pytest.mark.parametrize(("group", "name"), TRAIN + RECIPES)
def test_composes_and_resolves(group: str, name: str) -> None:
    OmegaConf.to_container(composed(group, name), resolve=True)


@pytest.mark.parametrize("name", options("optim"))
@pytest.mark.parametrize("schedule", options("schedule"))
def test_optimiser_and_schedule_step(name: str, schedule: str) -> None:
    cfg = compose("train", [f"optim={name}", f"schedule={schedule}"])
    parameters = [nn.Parameter(torch.ones(2, 2))]
    optimizer = build(cfg.optim)(parameters)
    scheduler = build(cfg.schedule)(optimizer)
    parameters[0].sum().backward()
    optimizer.step()
    scheduler.step()
    assert (parameters[0] != 1).all()


@pytest.mark.parametrize("name", options("loss"))
def test_loss_terms_are_built_and_weighted(name: str) -> None:
    cfg = compose("train", [f"loss=[l1,{name}]"])
    weights = [term.weight for term in cfg.loss.values()]
    assert all(isinstance(weight, int | float) for weight in weights)


@pytest.mark.parametrize("name", options("trainer"))
def test_trainers_have_known_arguments(name: str) -> None:
    import inspect

    import pytorch_lightning as pl

    known = inspect.signature(pl.Trainer.__init__).parameters
    assert set(composed("trainer", name).trainer) - {"_target_"} <= set(known)


def test_the_data_scale_follows_the_scale() -> None:
    cfg = compose("train", ["scale=2"])
    assert cfg.model.scale == cfg.data.scale == 2


NAMESAKES = [
    name
    for name in options("model")
    if name.replace("_", "") == model_config(name)["_target_"].rpartition(".")[2].lower()
]


@pytest.mark.parametrize("name", NAMESAKES)
def test_a_file_named_as_its_class_says_what_the_class_says(name: str) -> None:
    """Two places with a network's numbers: where one is the other's namesake, they agree."""
    config = model_config(name)
    parameters = inspect.signature(target(config.pop("_target_"))).parameters
    config.pop("data_range", None)  # belongs to weights: official ones may want another
    if name == "nasnetbn":
        config.pop("blocks")  # what the search found; by default all are alike
    defaults = {key: parameters[key].default for key in config}
    assert config == {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
