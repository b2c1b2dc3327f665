"""A picture of what the first layer of a network looks for."""

from __future__ import annotations

import io
import math

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnjax.models.stack import ModelConfig, layer_rows
from cnnjax.types import Params

MOST, COLUMNS = 64, 16


def first_filters(
    config: ModelConfig, params: Params
) -> Float[np.ndarray, "height width channels filters"] | None:
    """Return the kernel of the first layer as images; None: its input is no image.

    A convolution's is what it is; a dense layer behind a flatten has one weight for
    each pixel of the network's input.
    """
    shape = config.input_shape
    if len(shape) != 3 or shape[-1] not in (1, 3):
        return None
    row = next((row for row in layer_rows(config) if row.kernel_shape), None)
    if row is None:
        return None
    kernel = np.asarray(params[row.name]["kernel"], np.float32)
    images = kernel if kernel.ndim == 4 else kernel.reshape(*shape, -1)
    return images if images.shape[2] == shape[-1] else None


def draw_filters(
    filters: Float[np.ndarray, "height width channels filters"],
) -> bytes:
    """Draw up to 64 filters as a PNG: mid-grey is 0, in the scale of each."""
    shown = np.moveaxis(filters, -1, 0)[:MOST]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(0.6 * columns + 0.4, 0.6 * rows + 0.6))
    FigureCanvasAgg(figure)
    title = f"{len(shown)} of {filters.shape[-1]} filters"
    figure.suptitle(title, fontsize="medium")
    for place, image in enumerate(shown):
        axes = figure.add_subplot(rows, columns, place + 1)
        most = float(np.abs(image).max()) or 1.0
        scaled = np.clip(0.5 + image / (2 * most), 0, 1)
        grey = scaled.shape[-1] == 1
        shades = {"cmap": "gray", "vmin": 0, "vmax": 1} if grey else {}
        axes.imshow(scaled[..., 0] if grey else scaled, **shades)
        axes.set_axis_off()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()
