"""Kernels laid out as PyTorch's and Equinox's: outputs first; channels before rows."""

from __future__ import annotations

import numpy as np
from case import Case


def to_channels_first(case: Case, layer: str, kernel: np.ndarray) -> np.ndarray:
    """Lay a kernel of ours out: [out, in, height, width], or [out, in] of a dense one.

    A dense layer behind a flatten reads its inputs by channels, rows and columns.
    """
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    shape = _flattened(case, layer)
    if shape is not None and len(shape) == 3:
        kernel = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3)
    return kernel.reshape(-1, kernel.shape[-1]).T


def from_channels_first(case: Case, layer: str, weight: np.ndarray) -> np.ndarray:
    """Lay a weight out as our kernel: [height, width, in, out], or [in, out]."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    shape = _flattened(case, layer)
    kernel = weight.T
    if shape is not None and len(shape) == 3:
        height, width, channels = shape
        kernel = kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3)
    return kernel.reshape(-1, kernel.shape[-1])


def _flattened(case: Case, name: str) -> tuple[int, ...] | None:
    """Return the shape that a dense layer's input had before it was laid out flat."""
    index = next(i for i, layer in enumerate(case.layers) if layer.name == name)
    before = case.layers[index - 1] if index else None
    flat = before is not None and before.kind == "flatten"
    return before.input_shape if flat and before else None
