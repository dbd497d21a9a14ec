"""Reading weights from whatever file holds them, without ever running code from it.

PyTorch files are pickles; only those that need nothing but tensors and plain values are read
(`weights_only`). Authors nest the tensors under many names, and some wrap the names: `read` finds
the tensors, `spellings` offers the names with the usual wrappers taken off.
"""

import argparse
import json
import pathlib
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from esr.errors import UserError
from esr.files import sha256

NESTINGS = (
    "params_ema",
    "params-ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "net_g",
    "network",
    "generator",
    "weights",
)
"""Names under which tensors lie in other people's files; averaged weights win over raw ones."""

WRAPPERS = ("module.", "_orig_mod.", "net.", "net_g.", "model.", "network.", "generator.")
"""Prefixes that wrappers put before every name: DataParallel, compile, Lightning modules."""

Tensors = dict[str, torch.Tensor]

_HARMLESS = [
    # Plain values that training scripts like to store beside the tensors; none of them runs code.
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
]


@dataclass(frozen=True)
class Weights:
    """The content of a weights file."""

    path: Path
    sha256: str  # of the whole file
    tensors: Tensors  # names as in the file; on the CPU
    nesting: str = ""  # where in the file they lay, such as `params_ema`; empty at the top
    # What our own files say about themselves; its `model` is the network's configuration.
    about: dict[str, Any] = field(default_factory=dict)


def read(path: Path | str) -> Weights:
    """Read a .safetensors, .ckpt, .pth, .pt or .bin file.

    Raises:
        UserError: the file is absent, empty, truncated, no weights file, holds no tensors, or is a
            pickle that needs code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty")
    if _is_safetensors(path):
        nesting, (tensors, about) = "", _read_safetensors(path)
    else:
        content = _read_pickle(path)
        nesting, tensors = _find_tensors(content, path)
        about = content.get("esr")
    return Weights(path, sha256(path), tensors, nesting, about if isinstance(about, dict) else {})


def spellings(tensors: Tensors) -> Iterator[Tensors]:
    """The names as they are, then without wrappers' prefixes, the most of them last.

    A prefix that only some names have is taken off too, and the others left out: a Lightning
    checkpoint holds the loss's tensors beside the network's.
    """
    yield tensors
    for prefix in WRAPPERS:
        inner = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if inner:
            yield from spellings(inner)


def _is_safetensors(path: Path) -> bool:
    """By content: an 8-byte length and a JSON object; the suffix decides for broken files."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:9] == b"{" or path.suffix == ".safetensors"


def _read_safetensors(path: Path) -> tuple[Tensors, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(_broken(path, str(error))) from None
    try:
        return tensors, json.loads(metadata.get("esr", "{}"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: its metadata `esr` is not JSON ({error})") from None


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols; what matters is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle provokes
        text = str(error)
        if names := re.findall(r"GLOBAL (\S+)", text)[:1] or _imports(path):
            raise UserError(
                f"{path} is refused: it needs {', '.join(names)}, and reading it would run code "
                "from the file. Weights are tensors and plain values only: save them anew with "
                "torch.save(net.state_dict(), PATH) where the file comes from"
            ) from None
        if "TorchScript" in text:
            raise UserError(
                f"{path} is a TorchScript archive, code and all; save net.state_dict() instead"
            ) from None
        raise UserError(_broken(path, text)) from None


def _imports(path: Path) -> list[str]:
    """What a pickle of a newer protocol than torch's would import; empty for anything else."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith("data.pkl")), None)
            content = archive.read(name) if name else b""
    else:
        content = path.read_bytes()
    names: list[str] = []
    strings: list[str] = []
    try:
        for code, value, _ in pickletools.genops(content):
            if code.name == "STACK_GLOBAL" and len(strings) > 1:
                names.append(".".join(strings[-2:]))
            elif isinstance(value, str):
                strings.append(value)
    except ValueError:  # no pickle, or cut off: what was seen so far is enough
        pass
    return [name for name in names if not name.startswith(("torch.", "collections."))]


def _broken(path: Path, reason: str) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the weights: fetch them with `git lfs pull`"
    if start.lstrip()[:1] == b"<":
        return f"{path} is a web page, not weights: the download went wrong"
    size = path.stat().st_size
    if start[:4] == b"PK\x03\x04" or path.suffix == ".safetensors":
        first = reason.strip().splitlines()[0].split(". ")[0] if reason.strip() else "unreadable"
        return f"{path} is truncated or damaged ({size} bytes): {first}"
    return f"{path} is not a weights file, or damaged ({size} bytes, beginning with {start[:8]!r})"


def _find_tensors(content: Any, path: Path) -> tuple[str, Tensors]:
    """The mapping of names to tensors, and the names of the dicts that it lies in."""
    place: list[str] = []
    keys = ", ".join(map(str, list(content)[:12])) if isinstance(content, Mapping) else ""
    while isinstance(content, Mapping):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        inner = {str(k): v for k, v in content.items() if isinstance(v, Mapping)}
        name = next((n for n in NESTINGS if n in inner), None)
        if name is None and len(inner) == 1 and not tensors:
            name = next(iter(inner))
        if name is None:
            if tensors:
                return ".".join(place), {k: v.detach() for k, v in tensors.items()}
            raise UserError(
                f"{path} holds no weights that were recognised; in it lie: {keys or 'nothing'}. "
                f"Looked for tensors at the top and under {', '.join(NESTINGS)}"
            )
        place.append(name)
        content = inner[name]
    raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
