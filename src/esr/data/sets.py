"""Which images make a set: files found, paired and named, before anything is decoded."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Protocol

from annotated_types import Ge

from esr.data.download import INSTEAD, Archive, fetch
from esr.data.images import SUFFIXES
from esr.errors import UserError

Weight = Annotated[float, Ge(0), "draws from a set relative to others; its images share it"] | None
"""None, of all sets: every pixel of all is equally likely."""


@dataclass(frozen=True)
class Pair:
    """One image of a set."""

    name: str
    hr: Path
    lr: Path | None = None  # None: LR is made from HR by MATLAB's bicubic


class ImageSet(Protocol):
    """What the data module needs of a set."""

    name: str
    weight: Weight

    def prepare(self, scale: int) -> None:
        """Download what is absent and can be had."""
        ...

    def pairs(self, scale: int) -> list[Pair]:
        """The set's images in the order of their names."""
        ...


class Folder:
    """A folder of HR images (PNG, JPEG, WebP, TIFF, BMP), searched with its subfolders."""

    def __init__(
        self,
        hr: str | Path | None,  # None: not given
        lr: str | Path | None = None,  # of equal names or NAMEx4 (the scale's number); None: made
        name: str | None = None,  # in logs; None: the folder's own
        weight: Weight = None,
        archives: list[Archive] | None = None,  # to download where the folders are absent
    ):
        self.hr = Path(hr).expanduser() if hr is not None else None
        self.lr = Path(lr).expanduser() if lr is not None else None
        self.name = name or (self.hr.resolve().name if self.hr is not None else "folder")
        self.weight = weight
        self.archives = archives or []

    def prepare(self, scale: int) -> None:
        fetch(self.archives, self._expected(scale))

    def pairs(self, scale: int) -> list[Pair]:
        """List and pair the files; UserError where one is missing, or two share a name."""
        if self.hr is None:
            raise UserError(
                "no training images were named. Type data.train.hr=FOLDER (its LR is made), or "
                "use data=sample, which needs nothing."
            )
        high = list_images(self.hr, self._expected(scale))
        if self.lr is None:
            return [Pair(name, path) for name, path in high.items()]
        low = list_images(self.lr, self._expected(scale))
        pairs = []
        for name, path in high.items():
            found = low.get(f"{name}x{scale}") or low.get(name)
            if found is None:
                raise UserError(
                    f"{path} has no LR image: expected {self.lr / name}x{scale} or "
                    f"{self.lr / name} with an image suffix. Add it, or type lr=null to make LR."
                )
            pairs.append(Pair(name, path, found))
        return pairs

    def _expected(self, scale: int) -> str:
        lines = [f"  {self.hr}/NAME.png"]
        if self.lr is not None:
            lines.append(f"  {self.lr}/NAMEx{scale}.png")
        return "\n".join(lines)


class HeldOut:
    """Splits a set in two by a rule that depends on the names alone.

    A tenth of the images (at least one, at most ten) is held out: those whose names have the
    smallest SHA-256. So the split is the same everywhere, and adding images moves few of them.
    """

    def __init__(self, source: ImageSet, part: Literal["train", "val"]):
        self.source, self.part = source, part
        self.name, self.weight = source.name, source.weight

    def prepare(self, scale: int) -> None:
        self.source.prepare(scale)

    def pairs(self, scale: int) -> list[Pair]:
        pairs = self.source.pairs(scale)
        if len(pairs) < 2:
            raise UserError(
                f"{self.name} holds {len(pairs)} image, too few to hold one out for validation. "
                "Add images or type data.val.hr=FOLDER."
            )
        count = min(10, max(1, len(pairs) // 10))
        ranked = sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).digest())
        held = {pair.name for pair in ranked[:count]}
        return [pair for pair in pairs if (pair.name in held) == (self.part == "val")]


class Sample:
    """The colour photographs in scikit-image's wheel: five to train on, two held out.

    They are small and few: enough to try things out, not to compare networks.
    """

    note = "these photographs are for trying things out; the real thing is data=div2k"
    """What a user is told before training."""

    TRAIN = (
        "astronaut.png", "ihc.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg",
    )  # fmt: skip
    VAL = ("chelsea.png", "coffee.png")

    def __init__(self, part: Literal["train", "val"], weight: Weight = None):
        self.name, self.part, self.weight = "sample", part, weight

    def prepare(self, scale: int) -> None:
        """Nothing to do: the files come with the installation."""

    def pairs(self, scale: int) -> list[Pair]:
        package = find_spec("skimage")
        if package is None or package.origin is None:
            raise UserError("data=sample needs scikit-image: pip install scikit-image")
        folder = Path(package.origin).parent / "data"
        files = [folder / name for name in (self.TRAIN if self.part == "train" else self.VAL)]
        for file in files:
            if not file.is_file():
                raise UserError(f"scikit-image lacks {file.name}: pip install 'scikit-image>=0.25'")
        return [Pair(file.stem, file) for file in files]


def list_images(folder: Path, expected: str) -> dict[str, Path]:
    """Image files below `folder` by name (path without suffix), sorted; hidden files are skipped.

    UserError, which shows the tree `expected`, if there are none or two of one name.
    """
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder.absolute()}. Expected:\n{expected}\nTo run without it: {INSTEAD}"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(p.startswith(".") for p in inside.parts):
            continue
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{found[name]} and {path} have the same name: remove or rename one")
        found[name] = path
    if not found:
        raise UserError(
            f"{folder.absolute()} holds no images ({', '.join(sorted(SUFFIXES))}). "
            f"Expected:\n{expected}"
        )
    return dict(sorted(found.items()))
