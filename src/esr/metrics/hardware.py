"""What makes the same measurement differ: a GPU's clocks and temperature, a CPU's memory."""

import ctypes
import importlib
import subprocess
import sys

import torch

FIELDS = {
    "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz",
    "temperature.gpu": "celsius",
    "power.draw": "watt",
}


def sensors(device: torch.device | str) -> dict[str, float]:
    """Clocks in MHz, temperature in degrees Celsius, power in watts; {} where not readable."""
    device = torch.device(device)
    if device.type != "cuda":
        return {}
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return _nvml(uuid) or _nvidia_smi(uuid)


def _nvml(uuid: str) -> dict[str, float]:
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, or no driver it can talk to: both mean "cannot be read"
        return {}
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return {
            "sm_mhz": float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "memory_mhz": float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            "celsius": float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            "watt": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        }
    except nvml.NVMLError:
        return {}
    finally:
        nvml.nvmlShutdown()


def _nvidia_smi(uuid: str) -> dict[str, float]:
    query = f"--query-gpu={','.join(FIELDS)}"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits", "-i", uuid]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for name, value in zip(FIELDS.values(), text.strip().split(","), strict=False):
        try:
            found[name] = float(value)
        except ValueError:  # "[N/A]"
            continue
    return found


def keep_memory() -> None:
    """Have glibc keep freed memory (up to 1 GiB) from now on; elsewhere nothing is done.

    Pages that are handed back and asked for anew are the largest noise of a timing on a CPU: they
    cost a forward pass nothing or a fifth of its time, as it happens, and a small network another
    share than a large one.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, size in ((-1, 1 << 30), (-2, 1 << 28), (-3, 1 << 25)):  # trim, pad, mmap
            libc.mallopt(option, size)
