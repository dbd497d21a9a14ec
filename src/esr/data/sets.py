"""Which images make a set: files found, paired and named, before anything is decoded."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from esr.data.download import Archive, fetch
from esr.data.images import SUFFIXES
from esr.errors import UserError


@dataclass(frozen=True)
class Pair:
    """One image of a set: its name, its HR file, and its LR file unless LR is to be made."""

    name: str
    hr: Path
    lr: Path | None = None


class ImageSet(Protocol):
    """What the data module needs of a set."""

    name: str
    weight: float | None

    def prepare(self, scale: int) -> None:
        """Download what is absent and can be had."""
        ...

    def pairs(self, scale: int) -> list[Pair]:
        """The set's images in the order of their names."""
        ...


class Folder:
    """A folder of HR images, searched with its subfolders, and perhaps one of their LR versions.

    Args:
        hr: folder of the HR images (PNG, JPEG, WebP, TIFF, BMP). None stands for "not given".
        lr: folder of the LR images, of equal names or NAMEx4 (the scale's number); None: LR is made
            from HR by MATLAB's bicubic.
        name: how the set is called in logs; the folder's own name when None.
        weight: how often the set is drawn from, relative to the other training sets; its images
            share it. None: every pixel of all sets is equally likely.
        archives: what to download and unpack when the folders are absent.
    """

    def __init__(
        self,
        hr: str | None,
        lr: str | None = None,
        name: str | None = None,
        weight: float | None = None,
        archives: list[Archive] | None = None,
    ):
        self.hr = Path(hr).expanduser() if hr is not None else None
        self.lr = Path(lr).expanduser() if lr is not None else None
        self.name = name or (self.hr.resolve().name if self.hr is not None else "folder")
        self.weight = weight
        self.archives = archives or []

    def prepare(self, scale: int) -> None:
        """Download the archives whose folder is absent; does nothing for a folder of one's own."""
        folders = [folder for folder in (self.hr, self.lr) if folder is not None]
        wanted = [
            archive
            for archive in self.archives
            if any(folder.is_relative_to(Path(archive.makes).expanduser()) for folder in folders)
        ]
        fetch(wanted, self._expected(scale))

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
        """As the set that is split."""
        self.source.prepare(scale)

    def pairs(self, scale: int) -> list[Pair]:
        """The part's images; UserError when there are fewer than two to split."""
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

    def __init__(self, part: Literal["train", "val"], weight: float | None = None):
        self.name, self.part, self.weight = "sample", part, weight

    def prepare(self, scale: int) -> None:
        """Nothing to do: the files come with the installation."""

    def pairs(self, scale: int) -> list[Pair]:
        """The part's photographs; UserError when the installed scikit-image lacks them."""
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
            f"no folder {folder.absolute()}. Expected:\n{expected}\n"
            "To run without it: data=sample (nothing needed), or data=folder data.train.hr=PATH "
            "for images of your own."
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
