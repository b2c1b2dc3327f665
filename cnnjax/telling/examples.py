"""One example as text: an image drawn with characters, and its prediction."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from cnnjax.telling.layout import WIDTH, wrap
from cnnjax.types import NO_PREDICTION, Examples

SHADES = " .:-=+*#%@"


def image_as_text(image: UInt8[np.ndarray, "height width channels"]) -> str:
    """Draw an image with characters, two per pixel, dark to bright; colours averaged.

    An image that would be too wide is shrunk: blocks of pixels are averaged.

    >>> print(image_as_text(np.array([[[0], [255]], [[255], [0]]], np.uint8)))
      @@
    @@
    """
    grey = _shrunk(image.mean(axis=-1)) / 256
    rows = (grey * len(SHADES)).astype(int)
    lines = ("".join(SHADES[shade] * 2 for shade in row) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _shrunk(
    grey: Float[np.ndarray, "height width"],
) -> Float[np.ndarray, "rows columns"]:
    """Average square blocks of pixels so that a row fits the terminal."""
    block = -(-2 * grey.shape[1] // WIDTH)
    if block == 1:
        return grey
    rows, columns = (max(1, size // block) for size in grey.shape)
    blocks = grey[: rows * block, : columns * block].reshape(rows, -1, columns, block)
    return blocks.mean(axis=(1, 3))


def example_as_text(examples: Examples, index: int) -> str:
    """Show one example with its label: a drawn image, or a row of numbers."""
    example, label = examples.inputs[index], examples.labels[index]
    if example.ndim == 3:
        return f"{image_as_text(example)}\ntest example {index}, label {label}"
    values = ", ".join(f"{value:.3f}" for value in example)
    target = ", ".join(f"{value:.4f}" for value in label)
    return wrap(f"test example {index}: [{values}], target {target}")


def prediction_line(examples: Examples, index: int, prediction: np.ndarray) -> str:
    """Show the network's prediction for one example, and its label."""
    label = examples.labels[index]
    if prediction.ndim == 0:
        predicted = "nothing" if prediction == NO_PREDICTION else prediction
        return f"test example {index}: label {label}, predicted {predicted}"
    values = (", ".join(f"{v:.4f}" for v in part) for part in (label, prediction))
    return wrap("test example {}: target {}, predicted {}".format(index, *values))
