"""Train, compress, measure and reproduce efficient super-resolution networks.

import esr
net = esr.load("ntire2022/rlfn")  # an entry, a run folder or a file of weights
esr.score(net, "Set5/HR", "Set5/LR_bicubic/X4")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esr.evaluation.score import score as score
    from esr.zoo.open import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "score"]


def __getattr__(name: str) -> Any:
    """Import what the package offers when it is asked for: torch takes seconds to import."""
    if module := {"load": "esr.zoo.open", "score": "esr.evaluation.score"}.get(name):
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'esr' has no attribute '{name}'")
