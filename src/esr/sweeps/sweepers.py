"""How Hydra composes and launches the trials of a sweep, and what a search is asked for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Trials(Sweeper):
    """A sweeper whose trials are composed and launched as Hydra's own are."""

    config: DictConfig
    context: HydraContext
    _launcher: Launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.context = config, hydra_context
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        for name in ("hydra", "hydra_plugins"):  # launchers print whole command lines
            logging.getLogger(name).setLevel(logging.WARNING)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """A trial's configuration, as its launcher will make it."""
        return self.context.config_loader.load_sweep_config(self.config, list(overrides))

    def launch(self, trials: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        """Run trials, numbered from `first` on, and wait for them."""
        return self._launcher.launch(trials, initial_job_idx=first)


@dataclass
class SearchTrials(Trials):
    """Trials that a sampler proposes one after the other, remembered in a study on disk."""

    name: str  # of the study
    trials: Annotated[int, Ge(1)]  # that the study shall have in the end
    parallel: Annotated[int, Ge(1)] | None  # at a time; None: as many as the launcher runs
    space: dict[str, str]  # key -> a range in Hydra's grammar; more can be typed
    directions: list[str] | None  # `maximize` or `minimize` for each objective; None: by its key
    sampler: Any  # makes an Optuna sampler from `seed`
    pruner: Any  # an Optuna pruner, which ends hopeless trials; None: all train to the end
    storage: str | None  # a database's URL or a journal file; None: SQLite in the sweep's folder
    seed: int  # of the sampler
