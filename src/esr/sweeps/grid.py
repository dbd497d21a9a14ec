"""Every combination of the values that were typed."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from esr.errors import UserError
from esr.evaluation import objective
from esr.sweeps import results
from esr.sweeps.sweepers import Trials


def run(sweeper: Trials, typed: Sequence[str]) -> None:
    """Run all trials, then tell what they gave; started again in its folder, it goes on.

    Raises:
        UserError: a range has no steps, or trials failed.
    """
    objective.check(sweeper.config.objective, None)
    trials = combinations(sweeper, typed)
    for trial in trials:
        sweeper.compose(trial)  # a wrong name is told before anything runs
    try:
        sweeper.launch(trials, 0)
    finally:
        failures = results.report(Path(sweeper.config.hydra.sweep.dir))
    if failures:
        raise UserError(f"{len(failures)} of {len(trials)} trials failed, the first: {failures[0]}")


def combinations(sweeper: Trials, typed: Sequence[str]) -> list[list[str]]:
    """The overrides of each trial; the last sweep typed varies fastest."""
    parser = OverridesParser.create(config_loader=sweeper.context.config_loader)
    axes: dict[str, list[str]] = {}
    for override in parser.parse_overrides(list(typed)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            axes[key] = [override.input_line or key]
        elif override.is_discrete_sweep():
            axes[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise UserError(
                f"{override.input_line} has no steps for a grid: list values ({key}=A,B), or "
                "search it with sweep=optuna"
            )
    return [list(trial) for trial in itertools.product(*axes.values())]
