"""What stands beside every result: bicubic interpolation, and the network that times it."""

import torch
from torch import nn

from esr.build import construct
from esr.config import model_config
from esr.data.resize import resize
from esr.models.network import Network
from esr.zoo import catalogue

REFERENCE = "rlfn"
"""The model that runtimes are set against: the winner, whose plain convolutions run anywhere."""


class Bicubic(Network):
    """MATLAB's bicubic `imresize` of 8-bit images, bit for bit; nothing to train."""

    def body(self, x: torch.Tensor) -> torch.Tensor:
        levels = (x.clamp(0, 1) * 255).round().to(torch.uint8)  # as MATLAB's input is
        return resize(levels, self.scale).to(x.dtype) / 255


def reference_network(
    scale: int, device: torch.device | str = "cpu", entry: str | None = None
) -> tuple[str, nn.Module]:
    """What runtimes are set against, by name: `REFERENCE`, or a published network.

    Its weights are random, as time does not depend on them; the state of the random generators is
    left as it was.
    """
    config = catalogue.entry(entry).config(scale) if entry else model_config(REFERENCE, scale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return entry or REFERENCE, construct(config).to(device).eval()
