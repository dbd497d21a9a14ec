"""Run a recipe: announce it, skip what is finished, resume what was interrupted, train the rest.

    FOLDER/recipe.json     what was typed: `resume=FOLDER` goes on with it
    FOLDER/STAGE/          a run folder, see `esr.training.folder` and `esr.recipes.jobs`

The folder is the same each time the recipe is started (OUTPUT/NAME unless run=FOLDER is given), so
starting it again continues it. A stage is finished when its result file lies beside a `stage.json`
with the digest that its configuration has now. One whose configuration changed is put aside, not
deleted, and so is whatever was derived from it.
"""

import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from esr.build import renewed
from esr.config import compose
from esr.console import rule, say
from esr.errors import UserError
from esr.files import read_json, write_json
from esr.recipes import handover, plan, stages
from esr.recipes.jobs import STAGE, Job, prepare, recorded, unchanged
from esr.training.callbacks.checkpoint import LAST
from esr.training.folder import CONFIG, RESULT, read_result, write_config
from esr.training.processes import follows
from esr.training.run import fit

RECIPE = "recipe.json"
_VARIABLE = "ESR_RECIPE"  # how the processes of one distributed run agree on what to do


def run(
    cfg: DictConfig,  # composed, with `stages`
    typed: Sequence[str],  # the overrides that made it; each stage is composed with them anew
    folder: Path | None = None,  # overrides `cfg.run` (a sweep's job has its own)
    alone: bool = True,  # no other job of a sweep runs in this process
) -> dict[str, float]:
    """Run the stages of `cfg` (all, or those of `cfg.stage`) and return the last one's metrics.

    Raises:
        UserError: something of any stage does not fit; said before the first step.
    """
    found = stages.parse(OmegaConf.to_container(cfg.stages, resolve=False))  # type: ignore[arg-type]
    wanted = {stage.name for stage in stages.select(found, cfg.stage)}
    folder = folder or Path(cfg.run or Path(cfg.output) / _name(cfg))
    jobs = prepare(found, stages.configure(found, typed, cfg.budget), folder)
    follower = follows()
    if follower and _VARIABLE in os.environ:  # the process that started this one has decided
        actions = json.loads(os.environ[_VARIABLE])
    else:
        if (folder / CONFIG).exists():
            raise UserError(f"{folder} holds a single run, not a recipe: choose another run=FOLDER")
        actions = _decide(jobs, wanted, follower)
    for job in jobs:
        if actions[job.name] != "train":
            handover.recall(job)
    chosen = [job for job in jobs if job.name in wanted]
    busy = [job for job in chosen if actions[job.name] != "skip"]
    for job in busy:
        handover.check(job)
    if not follower:
        handover.check_data(busy)
        write_json(folder / RECIPE, {"overrides": list(typed)})
        plan.show(chosen, actions)
    for job in busy:
        resumes = actions[job.name] == "resume"
        if follower:
            while not resumes and _state(job) in ("absent", "changed"):
                time.sleep(0.1)  # until the first process has made the stage's folder
        else:
            # Processes that Lightning starts in this stage begin with it: the earlier are done.
            done = {earlier.name: "skip" for earlier in busy[: busy.index(job)]}
            os.environ[_VARIABLE] = json.dumps(actions | done)
            if not resumes:
                _open(job, typed)
            rule(f"stage {job.name}")
        fit(job.cfg, job.folder, resumes, alone=alone)
    return read_result(chosen[-1].folder)


def is_recipe(folder: Path) -> bool:
    """Whether a recipe was started in this folder."""
    return (folder / RECIPE).is_file()


def reopen(folder: Path, typed: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The configuration and overrides with which the recipe in `folder` goes on."""
    saved = read_json(folder / RECIPE)["overrides"]
    overrides = [o for o in [*saved, *typed] if not o.startswith(("resume=", "run="))]
    return compose("train", [*overrides, f"run={folder}"]), overrides


def _name(cfg: DictConfig) -> str:
    """One folder for each length and seed, so that a short look does not disturb the long run."""
    parts = [str(cfg.name)]
    if cfg.budget.steps:
        parts.append(f"{cfg.budget.steps}_steps")
    if cfg.seed:
        parts.append(f"seed{cfg.seed}")
    return "_".join(parts)


def _decide(jobs: Sequence[Job], wanted: set[str], follower: bool) -> dict[str, str]:
    """For every stage `skip`, `resume` or `train`; the first process puts stale folders aside."""
    states = {job.name: _state(job) for job in jobs}
    actions = dict.fromkeys(states, "skip")
    stale: dict[str, str] = {}
    for job in jobs:
        if job.name not in wanted:
            continue
        for parent in job.parents:
            state = states[parent.name]
            if parent.name not in wanted and state != "finished":
                raise UserError(
                    f"stage {job.name} needs stage {parent.name}, which "
                    f"{'has another configuration' if state == 'changed' else 'is not finished'}"
                    f" in {parent.folder.parent}. Run the whole recipe, or "
                    f"stage=[{parent.name},{job.name}]"
                )
        state = states[job.name]
        actions[job.name] = {"finished": "skip", "interrupted": "resume"}.get(state, "train")
        if state == "changed":
            stale[job.name] = _reason(job, stale)
    for job in jobs:
        if actions[job.name] == "train" and job.folder.exists() and not follower:
            aside = _put_aside(job.folder)
            if job.name in stale:
                say(
                    f"stage {job.name} is trained anew: {stale[job.name]}. What it had is kept in "
                    f"{aside}"
                )
    return actions


def _state(job: Job) -> str:
    """`absent`, `changed`, `finished`, `interrupted` or `begun` (without a checkpoint)."""
    if not (job.folder / STAGE).is_file():
        return "absent"
    if not unchanged(job):
        return "changed"
    if (job.folder / RESULT).is_file():
        return "finished"
    return "interrupted" if (job.folder / "checkpoints" / LAST).is_file() else "begun"


def _reason(job: Job, stale: dict[str, str]) -> str:
    """What changed: keys of its own configuration, or the stage it derives from."""
    old, new = renewed(recorded(job)["facts"]), job.facts
    changes = [
        f"{key} {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "absent") != new.get(key, "absent")
    ]
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        return f"its configuration changed ({'; '.join(changes[:3])}{more})"
    parents = [parent.name for parent in job.parents if parent.name in stale]
    return f"it derives from {', '.join(parents) or 'other weights'}, which changed"


def _put_aside(folder: Path) -> Path:
    numbered = (folder.with_name(f"{folder.name}.old{number}") for number in itertools.count(1))
    return folder.rename(next(path for path in numbered if not path.exists()))


def _open(job: Job, typed: Sequence[str]) -> None:
    """Make the stage's folder: its initial weights, what it is, and how to repeat it."""
    job.folder.mkdir(parents=True, exist_ok=True)
    handover.start(job)
    write_config(job.cfg, job.folder, typed)
    write_json(job.folder / STAGE, {"digest": job.digest, "facts": job.facts})
