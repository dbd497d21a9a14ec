"""Small folders of images, made anew for every test that asks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Maker = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Maker:
    """Makes a folder of smooth random photographs of different sizes: `folder(name, count)`."""

    def make(name: str = "photos", count: int = 4, size: int = 96) -> Path:
        target = tmp_path / name
        target.mkdir(parents=True)
        generator = np.random.default_rng(len(name))
        for number in range(count):
            height, width = size + 5 * number, size + 40 - number % 9 * 7
            coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            noise = generator.integers(0, 30, (height, width, 3), dtype=np.uint8)
            Image.fromarray(np.asarray(image) // 2 + noise).save(target / f"img{number:02d}.png")
        return target

    return make


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESR_CACHE", str(tmp_path / "cache"))
