"""What a training step with each re-parameterised block costs, relative to plain convolutions.

A step is forward, L1, backward and Adam of PlainSR with every 3x3 but the tail's made by the block.
Blocks take turns, so that a machine's drift hits all; the time is the median. Blocks without
BatchNorm are also measured collapsed (trained through their merged kernel). Memory is what autograd
keeps for the backward pass (each storage once, parameters left out); on a GPU also the peak that
the allocator saw. The step of the merged network is the plain one's: they are the same modules.

    python benchmarks/reparam.py                       48 channels, 8 convolutions, HR 128, batch 4
    python benchmarks/reparam.py --batch 16 --patch 256 --steps 20
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from esr.config import build, compose, options
from esr.models.reparam.block import Block
from esr.provenance import provenance

PLAIN = "torch.nn."
BLOCK = "esr.models.reparam."  # others are one network's own


def network(conv: str, width: int, depth: int) -> nn.Module | None:
    overrides = ["model=plainsr", f"model.width={width}", f"model.depth={depth}"]
    model = compose(overrides=[*overrides, f"conv={conv}"]).model
    return build(model) if model.conv._target_.startswith((PLAIN, BLOCK)) else None


def forms(width: int, depth: int) -> dict[str, nn.Module]:
    """Every block, summing its branches, and collapsed where that is another computation."""
    found: dict[str, nn.Module] = {}
    for conv in ["plain", *(name for name in options("conv") if name != "plain")]:
        for collapsed in (False, True):
            net = network(conv, width, depth)
            if net is None:
                continue
            blocks = [module for module in net.modules() if isinstance(module, Block)]
            linear = not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
            if conv in ("plain", "conv_lora") or not linear:
                if not collapsed:
                    found[conv] = net
                continue
            for block in blocks:
                block.collapsed = collapsed
            found[f"{conv} collapsed" if collapsed else conv] = net
    return found


def step(net: nn.Module, optimizer: torch.optim.Optimizer, lr, hr) -> None:
    optimizer.zero_grad(set_to_none=True)
    nn.functional.l1_loss(net(lr), hr).backward()
    optimizer.step()


def kept_bytes(net: nn.Module, lr: torch.Tensor, hr: torch.Tensor) -> int:
    """Bytes that one forward pass leaves for the backward pass."""
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        nn.functional.l1_loss(net(lr), hr)
    return sum(storages.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--patch", type=int, default=128, help="HR pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each block")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    cuda = device.type == "cuda"
    torch.manual_seed(0)
    if not cuda:
        torch.set_num_threads(1)
    nets = {n: net.to(device) for n, net in forms(arguments.width, arguments.depth).items()}
    hr = torch.rand(arguments.batch, 3, arguments.patch, arguments.patch, device=device)
    lr = nn.functional.avg_pool2d(hr, 4)
    optimizers = {
        name: torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-4)
        for name, net in nets.items()
    }
    clock = time.perf_counter if cuda else time.process_time
    times: dict[str, list[float]] = {name: [] for name in nets}
    peaks: dict[str, float] = {}
    for turn in range(arguments.steps + 1):
        for name, net in nets.items():
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
                held = torch.cuda.memory_allocated(device)
            started = clock()
            step(net, optimizers[name], lr, hr)
            if cuda:
                torch.cuda.synchronize(device)
                peaks[name] = (torch.cuda.max_memory_allocated(device) - held) / 2**20
            if turn:  # the first is a warm-up
                times[name].append(clock() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = {}
    for name, net in nets.items():
        kept = kept_bytes(net, lr, hr) / 2**20
        rows[name] = {
            "step_ms": round(1000 * medians[name], 2),
            "step_ratio": round(medians[name] / medians["plain"], 3),
            "kept_mib": round(kept, 2),
            "params_k": round(sum(p.numel() for p in net.parameters()) / 1000, 1),
        }
        if cuda:
            rows[name]["peak_mib"] = round(peaks[name], 1)
    for row in rows.values():
        row["kept_ratio"] = round(row["kept_mib"] / rows["plain"]["kept_mib"], 3)
    result = {
        "what": "training step of PlainSR with each re-parameterised block, relative to plain",
        "protocol": {
            "width": arguments.width,
            "depth": arguments.depth,
            "hr_patch": arguments.patch,
            "batch": arguments.batch,
            "steps": arguments.steps,
            "threads": torch.get_num_threads(),
            "dtype": "float32",
            "clock": "wall, synchronised" if cuda else "CPU time of the process",
            "statistic": "median, blocks in turns, one warm-up step",
            "memory": "kept_mib: storages that autograd keeps, without parameters"
            + ("; peak_mib: allocator's peak above what was held" if cuda else ""),
        },
        "blocks": rows,
        **provenance(device),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"reparam_{device.type}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for name, row in rows.items():
        print(
            f"{name:<24} {row['step_ms']:>8.1f} ms  x{row['step_ratio']:<6} "
            f"kept {row['kept_mib']:>7.1f} MiB  x{row['kept_ratio']}"
        )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
