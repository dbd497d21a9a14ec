"""Recipes: plan, skip, resume, invalidate; and every mistake named before the first step."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from esr.commands import train as stages
from esr.config import compose, experiments_dir, plain
from esr.errors import UserError
from esr.recipes import jobs
from esr.recipes import run as running
from esr.recipes import stages as reading

TINY = [
    "model=rlfn",
    "model.depth=1",
    "model.width=8",
    "model.mid=8",
    "trainer=cpu",
    "trainer.max_steps=3",
    "data.batch_size=2",
    "data.samples_per_epoch=4",
    "data.patch_size=64",
    "callbacks.evaluation=null",
    "callbacks.images=null",
    "callbacks.checkpoint.monitor=null",
    "objective=eff/params_m",
]
THREE = {
    "scratch": "{}",
    "warm": "{init: scratch, overrides: ['optim.lr=2e-3']}",
    "contrastive": "{init: warm, overrides: ['loss=[l1,contrastive]']}",
}
RECIPES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in experiments_dir().glob("*/*.yaml")
    if "\nstages:" in path.read_text()
)


def overrides(folder: Path, recipe: dict[str, str], *typed: str) -> list[str]:
    return [
        *TINY,
        *(f"+stages.{name}={text}" for name, text in recipe.items()),
        f"run={folder}",
        *typed,
    ]


def start(folder: Path, recipe: dict[str, str], *typed: str) -> float | tuple[float, ...]:
    words = overrides(folder, recipe, *typed)
    return stages.run(compose("train", words), words)


def state(stage: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(stage / "checkpoints" / name, weights_only=True)["state_dict"]


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe") / "three"
    start(folder, THREE)
    return folder


def test_every_stage_leaves_a_run_folder_and_starts_from_the_one_before(finished: Path):
    for name in THREE:
        assert (finished / name / "result.json").is_file()
        assert (finished / name / "deploy.safetensors").is_file()
    assert not (finished / "scratch" / "init.safetensors").exists()
    from safetensors.torch import load_file

    initial = load_file(finished / "warm" / "init.safetensors")
    left = {k.removeprefix("net."): v for k, v in state(finished / "scratch").items()}
    assert same(initial, left)
    assert not same(state(finished / "warm"), state(finished / "scratch"))


@pytest.mark.slow
def test_the_plan_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    start(tmp_path / "r", {"a": "{}", "b": "{init: a, overrides: ['trainer.max_steps=0']}"})
    out = capsys.readouterr().out
    plan = out[: out.index("stage a")]
    assert "r: 2 stages" in plan
    assert "at the speed just measured" in plan
    rows = [line.split()[:2] for line in plan.splitlines() if line.split()[:1] in (["a"], ["b"])]
    assert rows == [["a", "scratch"], ["b", "a"]]


def test_finished_stages_are_skipped(finished: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.ckpt")}
    value = start(finished, THREE)
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*.ckpt")}
    assert capsys.readouterr().out.count("finished") == 3
    assert isinstance(value, float)


def test_one_stage_alone(finished: Path, tmp_path: Path):
    start(finished, THREE, "stage=contrastive")
    with pytest.raises(
        UserError, match="stage contrastive needs stage warm, which is not finished"
    ):
        start(tmp_path / "new", THREE, "stage=contrastive")
    start(tmp_path / "new", THREE, "stage=scratch")
    assert not (tmp_path / "new" / "warm").exists()


def test_resume_of_the_folder_needs_nothing_else(finished: Path):
    stages.run(compose("train", [f"resume={finished}"]), [f"resume={finished}"])


@pytest.mark.slow
def test_a_changed_stage_and_what_follows_are_trained_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "r"
    start(folder, THREE)
    scratch = state(folder / "scratch")
    old = state(folder / "warm")
    capsys.readouterr()
    changed = THREE | {"warm": "{init: scratch, overrides: ['optim.lr=1e-4']}"}
    start(folder, changed)
    out = capsys.readouterr().out
    assert "stage warm is trained anew: its configuration changed (optim.lr 0.002 -> 0.0001)" in out
    assert "stage contrastive is trained anew: it derives from warm, which changed" in out
    assert same(state(folder / "scratch"), scratch)
    assert same(state(folder / "warm.old1"), old)
    assert not same(state(folder / "warm"), old)
    with pytest.raises(UserError, match="stage contrastive needs stage warm, which has another"):
        start(folder, THREE, "stage=contrastive")


OF_0_1_0 = {  # as that version wrote it: another module, another name, a class within a list
    "data._target_": "esr.datamodule.SRData",
    "callbacks.checkpoint._target_": "esr.callbacks.checkpoint.Checkpoint",
    "loss.distill_output.teacher._target_": "esr.teachers.load",
    "start.transform": [
        {
            "_target_": "esr.surgery.prune.Prune",
            "target": {"flops": 0.75},
            "importance": {"_target_": "esr.surgery.pruning.importance.Taylor"},
            "spread": "uniform",
            "round_to": 1,
        }
    ],
}


def test_classes_that_only_moved_change_no_stage(tmp_path: Path):
    typed = ["pruning=one_shot", "budget=smoke", "data=sample"]
    cfg = compose("train", typed)
    found = reading.parse(cfg.stages)
    (job,) = jobs.prepare(found, reading.configure(found, typed, cfg.budget), tmp_path)
    assert OF_0_1_0.keys() <= job.facts.keys()
    old = job.facts | OF_0_1_0
    record = {"digest": jobs.digest(old, [job.cfg.init], []), "facts": old}
    job.folder.mkdir()
    (job.folder / jobs.STAGE).write_text(json.dumps(record))
    assert jobs.unchanged(job)
    job.facts["optim.lr"] = 1.0
    assert not jobs.unchanged(job)
    assert (
        running._reason(job, {}) == f"its configuration changed (optim.lr {old['optim.lr']} -> 1.0)"
    )


def test_a_stage_is_known_by_where_its_weights_came_from_not_by_where_it_lies(tmp_path: Path):
    def identity(init: str, folder: Path) -> str:
        typed = ["pruning=one_shot", "budget=smoke", f"stages.finetune.init={init}"]
        cfg = compose("train", typed)
        found = reading.parse(cfg.stages)
        return jobs.prepare(found, reading.configure(found, typed, cfg.budget), folder)[0].digest

    here = identity("ntire2022/rlfn", tmp_path / "here")
    assert here == identity("ntire2022/rlfn", tmp_path / "there")
    assert here != identity("papers/rlfn", tmp_path / "here")


def test_what_does_not_matter_invalidates_nothing(finished: Path):
    start(finished, THREE, "logger=[]", "objective=eff/convs", "name=other")
    assert not list(finished.glob("*.old*"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["at the checkpoint", "right after the start"])
def test_killed_in_the_third_stage_and_restarted_equals_undisturbed(tmp_path: Path, moment: str):
    """SIGKILL, as an out-of-memory or a power cut: nothing is told to the process."""
    words = ["trainer.max_steps=40", "callbacks=[default,ema]", "data.samples_per_epoch=8"]
    words += ["callbacks.evaluation=null", "callbacks.images=null"]
    start(tmp_path / "whole", THREE, *words)
    command = [sys.executable, "-c", "from esr.commands.cli import train; train()"]
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, *overrides(killed, THREE, *words)], cwd=tmp_path)
    third = killed / "contrastive"
    wanted = third / ("checkpoints/last.ckpt" if moment == "at the checkpoint" else "stage.json")
    while process.poll() is None and not wanted.exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert wanted.exists()
    assert not (third / "result.json").exists(), "killed too late to tell anything"
    start(killed, THREE, *words)
    for stage in THREE:
        assert same(state(tmp_path / "whole" / stage), state(killed / stage)), stage
        names = ("result.json", "deploy.safetensors")
        assert (third / names[0]).is_file()
    left, right = (f / "contrastive" / "deploy.safetensors" for f in (tmp_path / "whole", killed))
    from safetensors.torch import load_file

    assert same(load_file(left), load_file(right))


@pytest.mark.slow
def test_repeat_prune_fuse_ema_and_a_teacher(tmp_path: Path):
    """The other verbs in one recipe."""
    folder = tmp_path / "r"
    words = ["callbacks=[default,ema]", "callbacks.evaluation=null", "callbacks.images=null"]
    base = [word for word in TINY if not word.startswith("model.width")]
    stages_ = {
        "wide": "{overrides: ['conv=ecb', 'model.width=10']}",
        "again": "{init: wide, repeat: 2, weights: raw, overrides: ['conv=ecb', 'model.width=10']}",
        "fused": "{init: again, weights: ema, transform: [fuse], "
        "overrides: ['model.width=10', 'trainer.max_steps=0']}",
        "thin": "{init: fused, overrides: ['model.width=8', 'loss=[l1,distill_output]', "
        "'loss.distill_output.teacher.source=again'], "
        "transform: [{_target_: esr.surgery.prune.Prune, widths: {width: 8}}]}",
    }
    words = [*base, *(f"+stages.{k}={v}" for k, v in stages_.items()), f"run={folder}", *words]
    stages.run(compose("train", words), words)
    names = ["again_1", "again_2", "fused", "thin", "wide"]
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == names
    assert json.loads((folder / "fused" / "result.json").read_text())["steps"] == 0
    raw = torch.load(folder / "wide" / "checkpoints" / "last.ckpt", weights_only=True)
    from safetensors.torch import load_file

    first = load_file(folder / "again_1" / "init.safetensors")
    assert all(torch.equal(first[k], raw["current_model_state"][f"net.{k}"]) for k in first)
    fused = load_file(folder / "fused" / "deploy.safetensors")
    assert same(fused, load_file(folder / "again_2" / "deploy.safetensors")) or fused.keys()
    thin = load_file(folder / "thin" / "deploy.safetensors")
    assert thin["head.weight"].shape[0] == 8
    assert not any("teacher" in key for key in state(folder / "thin"))


@pytest.mark.slow
def test_a_pruner_chooses_the_network_and_the_next_stage_goes_on_with_it(tmp_path: Path):
    stages_ = {
        "wide": "{}",
        "thin": "{init: wide, transform: [{_target_: esr.surgery.prune.Prune, "
        "target: {channels: 0.75}}], overrides: ['trainer.max_steps=0']}",
        "tuned": "{init: thin}",
    }
    start(tmp_path / "r", stages_)
    first = json.loads((tmp_path / "r" / "tuned" / "result.json").read_text())["metrics"]
    start(tmp_path / "r", stages_ | {"tuned": "{init: thin, overrides: ['optim.lr=1e-5']}"})
    again = json.loads((tmp_path / "r" / "tuned" / "result.json").read_text())["metrics"]
    wide = json.loads((tmp_path / "r" / "wide" / "result.json").read_text())["metrics"]
    assert again["eff/params_m"] == first["eff/params_m"] < 0.9 * wide["eff/params_m"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            {"a": "{}", "b": "{init: c}", "c": "{}"},
            "stage b starts from c, which comes later. Before it: a",
        ),
        ({"a": "{init: b}", "b": "{init: a}"}, "stage a starts from b, which comes later"),
        ({"a": "{init: a}"}, "stage a starts from itself"),
        ({"scratch": "{}", "b": "{init: scrach}"}, "did you mean scratch"),
        ({"a": "{}", "b": "{init: nowhere/x.pth}"}, "stage b: .*nowhere"),
        ({"a": "{inti: b}"}, "stage a: unknown key inti. Known: init, overrides"),
        ({"a": "{repeat: 0}"}, "stage a: repeat"),
        ({"a": "{weights: bset}"}, "stage a: weights is one of best, last, ema, raw, got bset"),
        ({"a": "{overrides: ['run=x']}"}, "stage a: a stage cannot set run"),
        ({"a": "{overrides: ['optim.lrr=1']}"}, "stage a: .*lrr"),
        ({"a": "{overrides: ['loss=[l3]']}"}, "stage a: .*l3"),
        (
            {"a": "{}", "b": "{init: a, overrides: ['model.esa_width=12']}"},
            "stage b: the weights of a do not fit",
        ),
        ({"a": "{}", "b": "{init: a, transform: [fuze]}"}, "stage b: .*fuze"),
        ({"a": "{transform: [fuse]}"}, "stage a: there is nothing to transform"),
        ({"a": "{}", "b": "{init: a, weights: ema}"}, "stage b: weights: ema, but"),
        (
            {
                "a": "{overrides: ['scale=2']}",
                "b": "{overrides: ['loss=[l1,distill_output]', "
                "'loss.distill_output.teacher.source=a']}",
            },
            r"stage b: the teacher \(RLFN\) upscales by 2, the student \(RLFN\) by 4",
        ),
        (
            {
                "a": "{overrides: ['loss=[l1,distill_output]', "
                "'loss.distill_output.teacher.source=b']}",
                "b": "{}",
            },
            "stage a: the teacher of distill_output is stage b, which comes later",
        ),
        (
            {"a": "{overrides: ['loss=[distill_output]']}"},
            "stage a: the distillation loss needs a teacher",
        ),
    ],
)
def test_mistakes_are_named_before_the_first_step(tmp_path: Path, broken: dict, message: str):
    with pytest.raises(UserError, match=message):
        start(tmp_path / "r", broken)
    assert not (tmp_path / "r").exists(), "something was begun"


def test_a_patch_larger_than_an_image_is_named_before_the_first_step(tmp_path: Path):
    words = [word for word in overrides(tmp_path / "r", {}) if "patch_size" not in word]
    words += ["+stages.a={overrides: ['data.patch_size=64']}"]
    words += ["+stages.b={init: a, overrides: ['data.patch_size=2048']}"]
    with pytest.raises(UserError, match=r"stage b: .*patch_size=2048"):
        stages.run(compose("train", words), words)
    assert not (tmp_path / "r").exists()


def test_unknown_stage_and_stage_without_recipe(tmp_path: Path):
    with pytest.raises(UserError, match=r"stage=warn does not exist; did you mean warm\?"):
        start(tmp_path / "r", THREE, "stage=warn")
    with pytest.raises(UserError, match="stage=warm is for recipes"):
        start(tmp_path / "r", {}, "stage=warm")


@pytest.mark.parametrize("typed", ["budget.steps=abc", "budget.steps=-1", "budget.patch_size=x"])
def test_a_budget_that_is_no_count_is_refused(typed: str, tmp_path: Path):
    words = ["budget=smoke", typed] if "steps" not in typed else [typed]
    with pytest.raises(UserError, match=f"{typed}: expected a whole number"):
        start(tmp_path / "r", THREE, *words)


def test_a_budget_shortens_a_single_run_as_a_recipe_of_one_stage(tmp_path: Path):
    typed = [word for word in TINY if not word.startswith("trainer.max_steps")]
    typed += [f"run={tmp_path / 'r'}", "budget.steps=2"]
    stages.run(compose("train", typed), typed)
    assert json.loads((tmp_path / "r" / "train" / "result.json").read_text())["steps"] == 2


def test_budget_keeps_the_proportions():
    typed = ["ntire2022=rlfn", "budget=minutes"]
    cfg = compose("train", typed)
    found = reading.parse(cfg.stages)
    configs = reading.configure(found, typed, cfg.budget)
    by_name = dict(zip([stage.name for stage in found], configs, strict=True))
    steps = {name: c.trainer.max_steps for name, c in by_name.items()}
    assert sum(steps.values()) == pytest.approx(cfg.budget.steps, rel=0.02)
    assert (
        steps["scratch"] == steps["contrastive"] == pytest.approx(10 * steps["finetune"], rel=0.1)
    )
    assert steps["prune"] == 0
    assert list(by_name["scratch"].schedule.milestones) == [
        round(steps["scratch"] * share) for share in (0.2, 0.4, 0.6, 0.8)
    ]
    assert by_name["scratch"].data.patch_size == 96
    assert by_name["finetune"].data.patch_size == 240
    assert by_name["scratch"].data.batch_size == 8
    assert "Sample" in by_name["scratch"].data.train._target_


def test_what_is_typed_beats_stage_and_budget():
    typed = ["ntire2022=rlfn", "budget=minutes", "trainer.max_steps=2", "data.patch_size=64"]
    cfg = compose("train", typed)
    found = reading.parse(cfg.stages)
    for stage, config in zip(found, reading.configure(found, typed, cfg.budget), strict=True):
        assert config.trainer.max_steps == (0 if stage.name == "prune" else 2)
        assert config.data.patch_size == 64


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["papers=edsr_baseline"], {"milestones": [600]}),
        (["papers=pan", "+schedule.T_mult=2"], {"T_0": 225, "T_mult": 2}),
        (
            ["papers=pan", "schedule=warmup_cosine", "schedule.steps=100000", "~schedule.T_0"],
            {"steps": 90},
        ),
    ],
)
def test_written_step_counts_of_a_schedule_are_scaled(typed: list[str], expected: dict):
    typed = [*typed, "budget=minutes"]
    cfg = compose("train", typed)
    config, *_ = reading.configure(reading.parse(cfg.stages), typed, cfg.budget)
    assert expected.items() <= plain(config.schedule).items()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_from_any_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESR_WEIGHTS", str(shared / "ntire2022" / "weights"))
    words = [
        name,
        "trainer.max_steps=2",
        "budget=smoke",
        "data.samples_per_epoch=4",
        "data.batch_size=2",
        "trainer=cpu",
        "run=here",
        "callbacks.evaluation=null",
        "callbacks.images=null",
        "callbacks.checkpoint.monitor=null",
        "objective=eff/params_m",
    ]
    stages.run(compose("train", words), words)
    for stage in reading.parse(compose("train", words).stages):
        result = json.loads((tmp_path / "here" / stage.name / "result.json").read_text())
        assert result["steps"] in (0, 2)
