"""Every block's YAML and photographs, shared by the tests of re-parameterisation."""

from pathlib import Path

import hydra
import numpy as np
import skimage
import torch
import yaml

from esr.models.reparam.block import Block
from esr.models.reparam.blocks import ConvLoRA

CONV_DIR = Path(__file__).parents[2] / "conf" / "conv"
BLOCKS = sorted(
    path.stem
    for path in CONV_DIR.glob("*.yaml")
    if yaml.safe_load(path.read_text())["_target_"].startswith("esr.models.reparam.")
)


def factory(name):
    """The partial constructor that `conv=<name>` puts into a model."""
    return hydra.utils.instantiate(yaml.safe_load((CONV_DIR / f"{name}.yaml").read_text()))


def photograph(height, width, name="astronaut", top=150, left=180):
    """A crop of a photograph, (1, 3, height, width) in [0, 1], float32."""
    image = np.asarray(getattr(skimage.data, name)())[top : top + height, left : left + width]
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255


def by_branches(net):
    """Let every block sum its branches, so that comparing with the merged form says something."""
    for module in net.modules():
        if isinstance(module, Block) and not isinstance(module, ConvLoRA):  # which has no branches
            module.collapsed = False
    return net


def train_a_little(net, x, target, steps=5, lr=1e-2):
    """A few optimiser steps: weights that are correlated, and moved running statistics."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=lr)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - target).abs().mean().backward()
        optimizer.step()
    return net.eval()
