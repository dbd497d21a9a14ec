"""The two commands. What they do is imported late, so that `--help` does not wait for torch."""

import importlib
import os
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from esr.config import begin, conf_dir, explain
from esr.errors import UserError


def train() -> None:
    """`python train.py ...`: train a network, or run a recipe stage by stage."""
    _command("train")


def evaluate() -> None:
    """`python evaluate.py ...`: score a checkpoint, an entry or a whole challenge."""
    _command("evaluate")


def _help(name: str) -> str:
    """The help page. On Hydra's own way to it every group is listed twice, which takes a while."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose(name, return_hydra_config=True).hydra.help.template


def _page(text: str) -> None:
    """Print it; a reader that has seen enough (`--help | head`) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(name: str) -> None:
    """Run `esr.commands.NAME` under Hydra; what the user did wrong is told without a traceback."""
    # Processes that Lightning starts inherit what is set below: what the user set is kept apart.
    wanted = os.environ.setdefault("ESR_FULL_ERROR", os.environ.get("HYDRA_FULL_ERROR", "0"))
    wants_traceback = wanted == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the message below is ours

    def guarded(cfg: DictConfig) -> Any:
        try:
            return importlib.import_module(f"esr.commands.{name}").run(cfg)
        except UserError as error:
            if wants_traceback or HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # a sweep has to learn of it
            raise SystemExit(f"error: {error}") from None  # Hydra would print the overrides first

    begin(name)
    if sys.argv[1:] in (["--help"], ["-h"]):
        return _page(_help(name))
    sys.path.append(os.getcwd())  # a network of one's own may lie beside what one types
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)
    try:
        main()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        raise SystemExit(f"error: {explain(error)}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
