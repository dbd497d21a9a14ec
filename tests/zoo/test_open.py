"""Whatever a user may have becomes a network, or a message that says why it does not."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import save_file

import esr
from esr.config import build
from esr.errors import UserError
from esr.models.state import transfer
from esr.zoo import catalogue as zoo
from esr.zoo.deploy import save_deploy
from esr.zoo.open import load, open_network

MODEL = {
    "_target_": "esr.models.rlfn.RLFN",
    "scale": 2,
    "data_range": 255,
    "width": 8,
    "mid": 10,
    "depth": 2,
    "esa_width": 4,
}
ECB = {"_target_": "esr.models.reparam.blocks.ECB", "_partial_": True}
WEIGHTS = ("ntire2022", "weights")


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(MODEL).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, 24, 28, generator=torch.Generator().manual_seed(1))


def same(one: torch.nn.Module, other: torch.nn.Module, image: torch.Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(one(image), other(image))


def run_folder(folder: Path, net: torch.nn.Module, model: dict = MODEL) -> Path:
    """What a run leaves: its resolved configuration and a Lightning checkpoint."""
    (folder / "checkpoints").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create({"scale": 2, "model": model}), folder / "resolved.yaml")
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    state["loss.l1.filter"] = torch.zeros(3)
    content = {"state_dict": state, "epoch": 1, "pytorch-lightning_version": "2.6.6"}
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder


def test_a_deploy_file_needs_nothing_else(tmp_path: Path, net, image):
    save_deploy(net, MODEL, tmp_path / "deploy.safetensors", {"scale": 2, "psnr": 30.5})
    found = open_network(tmp_path / "deploy.safetensors")
    assert same(found.net, net, image)
    assert not found.net.training
    assert found.model == MODEL
    with safe_open(tmp_path / "deploy.safetensors", "pt") as file:
        about = json.loads(file.metadata()["esr"])
    assert about == {"scale": 2, "psnr": 30.5, "model": MODEL}
    assert [path.name for path in tmp_path.iterdir()] == ["deploy.safetensors"]


def test_a_training_form_is_saved_merged(tmp_path: Path, image):
    model = {**MODEL, "conv": ECB}
    torch.manual_seed(0)
    net = build(model).eval()
    save_deploy(net, model, tmp_path / "deploy.safetensors")
    deployed = load(tmp_path / "deploy.safetensors")
    assert deployed.state_dict().keys() == build(MODEL).state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(deployed(image), net(image), rtol=0, atol=1e-4)


def test_a_configuration_of_another_network_is_not_saved(tmp_path: Path, net):
    with pytest.raises(UserError, match="does not build its network"):
        save_deploy(net, {**MODEL, "width": 12}, tmp_path / "deploy.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_and_its_checkpoint(tmp_path: Path, net, image):
    run = run_folder(tmp_path / "run", net)
    assert same(load(run), net, image)
    assert same(load(run / "checkpoints" / "last.ckpt"), net, image)
    assert same(load(run / "checkpoints"), net, image)
    save_deploy(net, MODEL, run / "deploy.safetensors")
    assert open_network(run).path == run / "deploy.safetensors"


def test_folders_and_files_that_are_not_there(tmp_path: Path, net):
    with pytest.raises(UserError, match="not the folder of a finished run"):
        load(tmp_path)
    save_deploy(net, MODEL, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"there is no checkpoint .*b.safetensors.*a.safetensors"):
        load(tmp_path / "b.safetensors")
    save_deploy(net, MODEL, tmp_path / "c.safetensors")
    with pytest.raises(UserError, match=r"Name one of: a.safetensors, c.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("nesting", [None, "params", "params_ema", "state_dict", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.net."])
def test_a_foreign_file_with_the_model_named(tmp_path: Path, net, image, nesting, prefix):
    state = {prefix + name: value for name, value in net.state_dict().items()}
    torch.save({nesting: state} if nesting else state, tmp_path / "a.pth")
    assert same(load(tmp_path / "a.pth", model=MODEL), net, image)
    with pytest.raises(UserError, match="Type model=NAME"):
        load(tmp_path / "a.pth")


def test_a_foreign_file_in_the_words_of_its_authors(tmp_path: Path, net, image):
    """Trained elsewhere with other widths, named as the official RLFN names its tensors."""
    torch.save(zoo.export_official(net, "ntire2022/rlfn"), tmp_path / "a.pth")
    assert same(load(tmp_path / "a.pth", model=MODEL), net, image)


def test_another_architecture_is_listed(tmp_path: Path, net):
    torch.save(net.state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError) as caught:
        load(tmp_path / "a.pth", model={**MODEL, "depth": 3, "mid": 12})
    message = str(caught.value)
    assert "missing: blocks.2." in message
    assert "of another shape: blocks.0.convs.0.weight 10x8x3x3 instead of 12x8x3x3" in message
    with pytest.raises(UserError, match=r"RUN does not fit RLFN.*missing"):
        transfer(net.state_dict(), build({**MODEL, "depth": 3}), "RUN")


def test_transfer_copies(net, image):
    other = build(MODEL).eval()
    transfer(net.state_dict(), other, "here")
    assert same(other, net, image)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "esr.training.folder.write_json",
        "esr.models.rlfn.torch.load",
        "torch.nn.init.ones_",
    ],
)
def test_metadata_cannot_have_anything_built(tmp_path: Path, net, target: str):
    model = {"_target_": target, "path": str(tmp_path / "trace")}
    state = {name: value.clone() for name, value in net.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors", metadata={"esr": json.dumps({"model": model})})
    with pytest.raises(UserError, match="is no network of esr"):
        load(tmp_path / "a.safetensors")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("model", ["RLFN", ["RLFN"], {"width": 8}, {"_target_": None}])
def test_metadata_that_names_no_network_is_said(tmp_path: Path, net, model):
    state = {name: value.clone() for name, value in net.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors", metadata={"esr": json.dumps({"model": model})})
    with pytest.raises(UserError, match=r"names none|no network of esr"):
        load(tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors", MODEL)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("team04_rlfn.pth", "ntire2022/rlfn"),
        ("rlfn_paper_x4.pth", "papers/rlfn"),
        ("team18_bsrn.pth", "ntire2022/bsrn"),
        ("team29_clrfdn.pth", "ntire2022/clrfdn"),
    ],
)
def test_published_files_are_recognised(tmp_path: Path, shared: Path, file: str, name: str):
    path = shared.joinpath(*WEIGHTS, file)
    assert open_network(path).source.startswith(f"{name}, by its checksum")


def test_a_published_network_trained_anew_is_recognised(tmp_path: Path, image):
    net = zoo.load("ntire2022/rlfn", weights=None)
    state = {f"module.{k}": v for k, v in zoo.export_official(net, "ntire2022/rlfn").items()}
    torch.save({"params_ema": state}, tmp_path / "mine.pth")
    found = open_network(tmp_path / "mine.pth")
    assert found.source == "ntire2022/rlfn, by the names and shapes of its tensors (params_ema)"
    assert same(found.net, net, image)


def test_a_file_says_where_its_network_came_from(tmp_path: Path, shared: Path, net, image):
    """`esr.load` of an entry, a run folder and a file; `Loaded.source` tells them apart."""
    run = run_folder(tmp_path / "run", net)
    foreign = tmp_path / "a.pth"
    torch.save({"params": net.state_dict()}, foreign)
    save_deploy(net, MODEL, tmp_path / "deploy.safetensors")
    for source, model, words in (
        (run, None, "its own configuration (state_dict)"),
        (run / "checkpoints" / "last.ckpt", None, "its own configuration (state_dict)"),
        (tmp_path / "deploy.safetensors", None, "its own configuration"),
        (foreign, MODEL, "given as model=esr.models.rlfn.RLFN (params)"),
    ):
        found = open_network(source, model)
        assert (found.source, found.model) == (words, MODEL)
        assert len(found.sha256) == 64
        assert same(found.net, net, image)
        assert same(esr.load(source, model), net, image)
        assert same(esr.load(str(source), model), net, image)
    folder = shared.joinpath(*WEIGHTS)
    found = open_network("ntire2022/rlfn", folder=folder)
    entry = zoo.entry("ntire2022/rlfn")
    assert found.source == "ntire2022/rlfn, official weights"
    assert (found.path, found.sha256) == (folder / "team04_rlfn.pth", entry.sha256)
    assert found.model == entry.config()


def test_load_takes_an_entry(shared: Path, monkeypatch: pytest.MonkeyPatch, image):
    monkeypatch.setenv("ESR_WEIGHTS", str(shared.joinpath(*WEIGHTS)))
    assert same(esr.load("ntire2022/rlfn"), zoo.load("ntire2022/rlfn"), image)
