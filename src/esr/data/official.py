"""The field's public data sets by their official folder and file names.

MD5 sums are those in circulation for DIV2K's archives (torchsr and others list the same). Flickr2K
has none; LSDIR and the benchmark sets have no address that serves without a form or for long, so
they are only expected, not fetched.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from esr.data.download import Archive
from esr.data.sets import Folder, Pair, Weight
from esr.errors import UserError

_DIV2K = "http://data.vision.ee.ethz.ch/cvl/DIV2K"
_MD5 = {
    "DIV2K_train_HR": "bdc2d9338d4e574fe81bf7d158758658",
    "DIV2K_train_LR_bicubic_X2": "9a637d2ef4db0d0a81182be37fb00692",
    "DIV2K_train_LR_bicubic_X3": "ad80b9fe40c049a07a8a6c51bfab3b6d",
    "DIV2K_train_LR_bicubic_X4": "76c43ec4155851901ebbe8339846d93d",
    "DIV2K_valid_HR": "9fcdda83005c5e5997799b69f955ff88",
    "DIV2K_valid_LR_bicubic_X2": "1512c9a3f7bde2a1a21a73044e46b9cb",
    "DIV2K_valid_LR_bicubic_X3": "18b1d310f9f88c13618c287927b29898",
    "DIV2K_valid_LR_bicubic_X4": "21962de700c8d368c6ff83314480eff0",
}

VALID = [f"{number:04d}" for number in range(801, 901)]
"""DIV2K's validation images, by the digits that their files' names begin with."""


def is_div2k_valid(names: Iterable[str]) -> bool:
    """Whether these are DIV2K's 100 validation images, whatever comes after their numbers."""
    return sorted(re.sub(r"\D.*", "", name) for name in names) == VALID


Lr = Literal["official", "made"]
"""The published LR images, or those made from HR here, equal to MATLAB's."""


class Official:
    """A set below `root`, the folder of all sets; subclasses say which folders at which scale."""

    def __init__(self, name: str, root: str, lr: Lr, weight: Weight):
        if lr not in ("official", "made"):
            raise UserError(f"{name}: lr is official or made, got {lr}")
        self.name, self.lr, self.weight = name, lr, weight
        self.root = Path(root).expanduser()

    def folder(self, scale: int) -> Folder:
        raise NotImplementedError

    def prepare(self, scale: int) -> None:
        self.folder(scale).prepare(scale)

    def pairs(self, scale: int) -> list[Pair]:
        return self.folder(scale).pairs(scale)


class DIV2K(Official):
    """DIV2K (Agustsson and Timofte, 2017): 800 training and 100 validation images.

    ROOT/DIV2K_train_HR/0001.png, ROOT/DIV2K_train_LR_bicubic/X4/0001x4.png, ROOT/DIV2K_valid_HR/...
    at x2, x3 and x4.
    """

    def __init__(
        self,
        root: str,
        part: Literal["train", "valid"],
        lr: Lr = "official",
        weight: Weight = None,
    ):
        super().__init__("DIV2K", root, lr, weight)
        self.part = part

    def folder(self, scale: int) -> Folder:
        high, low = f"DIV2K_{self.part}_HR", f"DIV2K_{self.part}_LR_bicubic"
        archives = [self._archive(high, high)]
        lower = None
        if self.lr == "official":
            lower = self.root / low / f"X{scale}"
            if f"{low}_X{scale}" in _MD5:
                archives.append(self._archive(f"{low}_X{scale}", f"{low}/X{scale}"))
        return Folder(self.root / high, lower, self.name, self.weight, archives)

    def _archive(self, stem: str, makes: str) -> Archive:
        return Archive(f"{_DIV2K}/{stem}.zip", self.root / makes, self.root, _MD5[stem])


class Flickr2K(Official):
    """Flickr2K (Lim et al., 2017): 2650 images, ROOT/Flickr2K/Flickr2K_HR/000001.png and
    ROOT/Flickr2K/Flickr2K_LR_bicubic/X4/000001x4.png, at x2, x3 and x4. One archive holds all.
    """

    def __init__(self, root: str, lr: Lr = "official", weight: Weight = None):
        super().__init__("Flickr2K", root, lr, weight)

    def folder(self, scale: int) -> Folder:
        base = self.root / "Flickr2K"
        lower = base / f"Flickr2K_LR_bicubic/X{scale}" if self.lr == "official" else None
        archive = Archive("https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar", base, self.root)
        return Folder(base / "Flickr2K_HR", lower, self.name, self.weight, [archive])


class LSDIR(Official):
    """LSDIR (Li et al., 2023): 84991 training and 250 validation images, to be asked for at
    https://data.vision.ee.ethz.ch/yawli: ROOT/LSDIR/HR/train/..., ROOT/LSDIR/X4/train/... with
    any folders below (pairs keep their folder), ROOT/LSDIR/HR/val, ROOT/LSDIR/X4/val.
    """

    def __init__(
        self, root: str, part: Literal["train", "val"], lr: Lr = "made", weight: Weight = None
    ):
        super().__init__("LSDIR", root, lr, weight)
        self.part = part

    def folder(self, scale: int) -> Folder:
        base = self.root / "LSDIR"
        lower = base / f"X{scale}" / self.part if self.lr == "official" else None
        return Folder(base / "HR" / self.part, lower, self.name, self.weight)


class Benchmark(Official):
    """One customary validation set: ROOT/NAME/HR/*.png and ROOT/NAME/LR_bicubic/X4/*x4.png.

    Where the scale's LR folder is absent, LR is made.
    """

    def __init__(self, root: str, name: str):
        super().__init__(name, root, "official", None)

    def folder(self, scale: int) -> Folder:
        base = self.root / self.name
        lower = base / "LR_bicubic" / f"X{scale}"
        return Folder(base / "HR", lower if lower.is_dir() else None, self.name)


def benchmarks(root: str, names: list[str]) -> dict[str, Benchmark]:
    """Several validation sets by name (Set5, Set14, B100, Urban100, Manga109) below one folder."""
    return {name: Benchmark(root, name) for name in names}
