"""Weights that anyone can regenerate: a tensor's values follow from its key and shape alone."""

import zlib

import numpy as np
import torch

COMPUTED = ("num_batches_tracked", "relative_position_index", "attn_mask")
"""Ends of keys whose values the network computes itself."""


def seeded(key: str, shape: list[int], data_range: float) -> torch.Tensor:
    """The values of the official key `key`; biases scale with the range the network works in."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    noise = random.standard_normal(shape or (1,)).reshape(shape)
    if key.endswith("running_var"):
        values = 1 + 0.25 * np.tanh(noise)
    elif key.endswith("running_mean"):
        values = 0.05 * noise * data_range
    elif key.endswith("weight_g"):
        values = 1 + 0.1 * noise
    elif len(shape) >= 2:
        values = noise / np.sqrt(np.prod(shape[1:]))
    elif key.endswith("weight"):
        values = 0.25 + 0.05 * noise
    else:
        values = 0.05 * noise * data_range
    return torch.from_numpy(values.astype(np.float32))
