"""NASNetBN, team neptune's searched network (NTIRE 2022): a list of blocks is the architecture.

The search space is every list of the four names in `CHOICES`, one a position (4**16 networks at
the published depth), around a fixed head and tail. `blocks` is an argument, so a sweep searches
it again: `python train.py -m model=nasnetbn 'model.blocks.0=mobile3,mobile6,plain,leaky'`.
BatchNorm stays in the network at inference.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from esr.errors import UserError
from esr.models.arguments import Channels, DataRange, Expansion, Scale
from esr.models.outlines import Blocks
from esr.models.parts.layers import resize, steps


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al., CVPR 2018) with a skip, wider inside."""

    def __init__(self, width: Channels, expansion: Expansion):
        super().__init__()
        hidden = expansion * width
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class Residual(nn.Module):
    """Two 3x3 convolutions with BatchNorm, `act` between them, and a skip."""

    def __init__(self, width: Channels, act: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))


CHOICES: dict[str, Callable[[int], nn.Module]] = {
    "mobile3": lambda width: InvertedResidual(width, 3),
    "mobile6": lambda width: InvertedResidual(width, 6),
    # A function and a module, as in the official code: the counter sees only the latter.
    "plain": lambda width: Residual(width, F.relu),
    "leaky": lambda width: Residual(width, nn.LeakyReLU(0.2, inplace=True)),
}
"""What a position of `blocks` can be: the official codes 0, 1, 2 and 3, in this order."""


class NASNetBN(Blocks):
    """Blocks in series without a long skip, upsampling in steps, a bilinear skip of the image.

    Raises:
        UserError: a block's name is unknown.
    """

    def __init__(
        self,
        scale: Scale = 4,
        data_range: DataRange = 1.0,
        width: Channels = 32,
        blocks: Sequence[str] = ("mobile3",) * 16,  # of `CHOICES`, from the input to the output
    ):
        unknown = sorted(set(blocks) - CHOICES.keys())
        if unknown:
            known = ", ".join(CHOICES)
            raise UserError(f"unknown blocks {', '.join(unknown)}: choose from {known}")
        super().__init__(scale, data_range, width, (CHOICES[name](width) for name in blocks))
        self.up = nn.ModuleList(
            nn.Conv2d(width, step**2 * width, 3, padding=1) for step in steps(scale)
        )
        self.tail = nn.ModuleList(nn.Conv2d(width, n, 3, padding=1) for n in (width, 3))
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = self.features(self.act(self.head(x)))
        for conv, step in zip(self.up, steps(self.scale), strict=True):
            y = self.act(F.pixel_shuffle(conv(y), step))
        return self.tail[1](self.act(self.tail[0](y))) + resize(x, self.scale, "bilinear")
