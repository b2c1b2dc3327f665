"""A network as its weights and a page of NumPy that runs them: `network.py`."""

from __future__ import annotations

from typing import Any

from cnnjax.base.errors import InputError
from cnnjax.data.preprocessing import Identity, MinMaxPerImage, Standardize
from cnnjax.experiments.recipe import Recipe
from cnnjax.models import kinds
from cnnjax.models.stack import layer_rows

HEAD = '''"""{name}: a network trained by cnnjax, run by NumPy alone.

    from network import predict
    classes = predict(images)  # raw, [examples, {shape}]
"""

from pathlib import Path

import numpy as np

WEIGHTS = dict(np.load(Path(__file__).with_name("weights.npz")))


def conv(x, name, padding, stride):
    kernel, bias = WEIGHTS[f"{{name}}/kernel"], WEIGHTS[f"{{name}}/bias"]
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.einsum("nyxcij,ijcf->nyxf", windows, kernel, optimize=True) + bias


def dense(x, name):
    return x @ WEIGHTS[f"{{name}}/kernel"] + WEIGHTS[f"{{name}}/bias"]


def blocks(x, window):
    n, rows, columns, channels = x.shape
    x = x[:, : rows // window * window, : columns // window * window]
    return x.reshape(n, rows // window, window, columns // window, window, channels)


def group_norm(x, name, groups, eps):
    scale, bias = WEIGHTS[f"{{name}}/scale"], WEIGHTS[f"{{name}}/bias"]
    wide = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean = wide.mean((1, 3), keepdims=True)
    variance = np.square(wide - mean).mean((1, 3), keepdims=True)
    normal = (wide - mean) / np.sqrt(variance + np.float32(eps))
    return normal.reshape(x.shape) * scale + bias


def {head}(images):
    x = np.asarray(images, np.float32)
{lines}
    return x
'''
TAIL = """

def predict(images):
    return logits(images).argmax(axis=1)
"""
FUNCTIONS = {
    "relu": "np.maximum(x, 0)",
    "tanh": "np.tanh(x)",
    "leaky_relu": "np.where(x > 0, x, np.float32(0.001) * x)",
}


def source_of(recipe: Recipe, *, classifies: bool) -> str:
    """Return the text of `network.py`.

    Raises:
        InputError: the network has a layer of another kind than this library's, or
            computes in another type than float32.
    """
    if recipe.model.dtype != "float32":
        raise InputError(
            f"expected a network in float32 for NumPy, got {recipe.model.dtype}"
        )
    lines = [*_scaling(recipe.preprocessing)]
    rows = layer_rows(recipe.model)
    layers = enumerate(row.layer for row in rows)
    back = {at - one.over for at, one in layers if isinstance(one, kinds.Residual)}
    for at, row in enumerate(rows):
        lines += [f"x_{at} = x"] * (at in back)
        lines += _line(row.name, row.layer, at)
    shape = ", ".join(map(str, recipe.model.input_shape))
    head = HEAD.format(
        name=recipe.name,
        shape=shape,
        lines="\n".join(f"    {line}" for line in lines),
        head="logits" if classifies else "predict",
    )
    if not classifies:
        head = head.replace("classes = predict", "targets = predict")
    return head + (TAIL if classifies else "")


def _scaling(how: Any) -> list[str]:
    match how:
        case Identity():
            return []
        case Standardize(mean, std):
            return [
                f"mean, std = np.float32({list(mean)}), np.float32({list(std)})",
                "x = (x / 255 - mean) / std",
            ]
        case MinMaxPerImage():
            return [
                "axes = tuple(range(1, x.ndim))",
                "low, high = x.min(axes, keepdims=True), x.max(axes, keepdims=True)",
                "x = (x - low) / np.where(high > low, high - low, 1)",
            ]
    raise InputError(f"expected a preprocessing of ours for NumPy, got {how}")


def _line(name: str, layer: Any, at: int) -> list[str]:
    match layer:
        case kinds.Conv(padding=padding, stride=stride):
            return [f'x = conv(x, "{name}", {padding}, {stride})']
        case kinds.GroupNorm(groups, eps):
            return [f'x = group_norm(x, "{name}", {groups}, {eps!r})']
        case kinds.AvgPool(window):
            return [f"x = blocks(x, {window}).mean(axis=(2, 4))"]
        case kinds.GlobalAvgPool():
            return ["x = x.mean(axis=(1, 2))"]
        case kinds.Residual(over):
            return [f"x = x + x_{at - over}"]
        case kinds.Dense():
            return [f'x = dense(x, "{name}")']
        case kinds.MaxPool(window):
            return [f"x = blocks(x, {window}).max(axis=(2, 4))"]
        case kinds.Activation(function):
            return [f"x = {FUNCTIONS[function]}"]
        case kinds.Flatten():
            return ["x = x.reshape(len(x), -1)"]
        case kinds.Dropout():
            return []
    raise InputError(f"expected a layer of ours for NumPy, got {layer}")
