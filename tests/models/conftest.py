"""Where the original checkpoints lie."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def weights(shared: Path) -> Path:
    """The folder of original checkpoint files."""
    return shared / "ntire2022" / "weights"
