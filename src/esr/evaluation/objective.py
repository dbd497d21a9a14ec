"""What a sweep optimises: metrics of the deployed network, by their keys."""

import re
from collections.abc import Mapping, Sequence

from esr.errors import UserError
from esr.evaluation import measure as evaluation

Objective = str | Sequence[str]


def keys(objective: Objective) -> list[str]:
    """The keys, whether one was given or several."""
    return [objective] if isinstance(objective, str) else list(objective)


def directions(objective: Objective) -> list[str]:
    """For each key `maximize` (fidelity) or `minimize` (cost)."""
    return ["minimize" if key.startswith("eff/") else "maximize" for key in keys(objective)]


def check(objective: Objective, val_names: Sequence[str] | None) -> None:
    """Refuse a key that the evaluation will not give, before anything is trained.

    Raises:
        UserError: it lists what will be measured.
    """
    wanted = keys(objective)
    if val_names is None:  # the sets are not known yet: `val/ANY/psnr_y` may be right
        wanted = [re.sub(r"^val/.*/", "val/", key) for key in wanted]
    _require(wanted, evaluation.keys(val_names or []))


def values(metrics: Mapping[str, float], objective: Objective) -> float | tuple[float, ...]:
    """The value of one key, or the values of several.

    Raises:
        UserError: a key was not measured.
    """
    _require(objective, list(metrics))
    found = tuple(metrics[key] for key in keys(objective))
    return found[0] if isinstance(objective, str) else found


def _require(objective: Objective, measured: Sequence[str]) -> None:
    missing = [key for key in keys(objective) if key not in measured]
    if missing:
        raise UserError(f"objective={missing[0]} is not measured. Measured: {', '.join(measured)}")
