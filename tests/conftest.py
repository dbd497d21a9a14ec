"""Where the reference material lies, and what every test may rely on."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: more threads each would only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ESR_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout (images, official weights)."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data absent: {SHARED} (set ESR_SHARED)")
    return SHARED
