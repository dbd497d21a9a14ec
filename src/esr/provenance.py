"""Where a number comes from: commit, versions, device, date, as plain dicts.

Run folders and result files carry these; a figure without them cannot be compared with anything.
Nothing here raises: what cannot be found out is None.
"""

import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "esr",
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "kornia",
    "numpy",
    "pillow",
    "scikit-image",
    "safetensors",
    "wandb",
    "tensorboard",
)


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """When, by what command, from which commit, with what packages and on which device."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),  # can be typed again
        "git": git(),
        "versions": versions(),
        "device": describe_device(device),
    }


def git(folder: Path | None = None) -> dict[str, Any]:
    """Commit of the checkout that `folder` lies in, and whether files differ from it.

    By default the checkout that this package was imported from; an installed package that merely
    lies inside somebody's checkout (a virtual environment) is not taken for part of it.

    Returns:
        commit: full hash, or None outside a checkout; dirty: True when a tracked file was changed
        or a new one not ignored; changed: the names of those files (at most 20).
    """
    nothing = {"commit": None, "dirty": None, "changed": []}
    if folder is None:
        here = Path(__file__).resolve()
        folder = here.parent
        if _git(folder, "ls-files", "--error-unmatch", here.name) is None:
            return nothing
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain")
    if commit is None or status is None:
        return nothing
    changed = [line[3:] for line in status.splitlines()]
    return {"commit": commit.strip(), "dirty": bool(changed), "changed": changed[:20]}


def versions() -> dict[str, str | None]:
    """Versions of Python, CUDA, cuDNN and of those `PACKAGES` that are installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    found["cuda"] = torch.version.cuda
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    found["cudnn"] = str(cudnn) if cudnn else None
    return found


def describe_device(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Kind and name of a device, the threads of a CPU or the memory of a GPU, and the system."""
    device = torch.device(device)
    described: dict[str, Any] = {"type": device.type, "system": platform.platform()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described["name"] = properties.name
        described["memory_mib"] = properties.total_memory // 2**20
        described["tf32"] = torch.backends.cuda.matmul.allow_tf32
        described["cudnn_benchmark"] = torch.backends.cudnn.benchmark
    else:
        described["name"] = _cpu_name() if device.type == "cpu" else device.type
        described["threads"] = torch.get_num_threads()
        described["cores"] = os.cpu_count()
    return described


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
