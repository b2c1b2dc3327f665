"""A network as an ONNX model, by jax2onnx: `pip install -e '.[onnx]'`."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Num

from cnnjax.base.errors import InputError
from cnnjax.data.preprocessing import Identity, MinMaxPerImage, Standardize
from cnnjax.loaded import LoadedRun
from cnnjax.models import kinds
from cnnjax.models.layers import ACTIVATIONS
from cnnjax.models.stack import layer_rows

NAME = "network.onnx"


def write(run: LoadedRun, to: Path) -> None:
    """Write network.onnx: float32 raw images [examples, *example] to outputs.

    Raises:
        InputError: the packages are not installed, or the network has a layer that is
            not of this library, or another type than float32.
    """
    try:
        from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"ONNX needs packages that are not installed ({error.name}); pip install "
            "-e '.[onnx]'"
        ) from error
    if run.recipe.model.dtype != "float32":
        raise InputError(
            f"expected a network in float32 for ONNX, got {run.recipe.model.dtype}"
        )
    spec = jax.ShapeDtypeStruct(("B", *run.recipe.model.input_shape), jnp.float32)  # pyright: ignore[reportArgumentType]
    for name in ("jax2onnx", "onnx_ir"):  # they warn of shapes that they infer later
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        to_onnx(
            lambda images: batched(run, images),
            [spec],
            return_mode="file",
            output_path=str(to / NAME),
        )


def batched(
    run: LoadedRun, images: Num[Array, "examples *example"]
) -> Float[Array, "examples outputs"]:
    """Compute the outputs of many examples at once: ONNX has no `vmap`."""
    x = _scaled(images.astype(jnp.float32), run.recipe.preprocessing)
    seen = []
    for row in layer_rows(run.recipe.model):
        weights, layer = run.params.get(row.name, {}), row.layer
        seen.append(x)
        if isinstance(layer, kinds.Residual):
            x = x + seen[-1 - layer.over]
            continue
        kernel = weights.get("kernel", weights.get("scale"))
        x = _applied(x, layer, kernel, weights.get("bias"))
    return x


def _scaled(x: Array, how: Any) -> Array:
    match how:
        case Identity():
            return x
        case Standardize(mean, std):
            shape = (1,) * (x.ndim - 1) + (-1,)
            shift, scale = (jnp.float32(v).reshape(shape) for v in (mean, std))
            return (x / 255 - shift) / scale
        case MinMaxPerImage():
            axes = tuple(range(1, x.ndim))
            low, high = (f(x, axes, keepdims=True) for f in (jnp.min, jnp.max))
            return (x - low) / jnp.where(high > low, high - low, 1)
    raise InputError(f"expected a preprocessing of ours for ONNX, got {how}")


def _applied(x: Array, layer: Any, kernel: Any, bias: Any) -> Array:
    match layer:
        case kinds.Conv(padding=padding, stride=stride):
            form, around = ("NHWC", "HWIO", "NHWC"), [(padding, padding)] * 2
            out = lax.conv_general_dilated(
                x, kernel, (stride, stride), around, dimension_numbers=form
            )
            return out + bias.reshape(1, 1, 1, -1)
        case kinds.Dense():
            return x @ kernel + bias.reshape(1, -1)
        case kinds.MaxPool(window):
            return _blocks(x, window).max((2, 4))
        case kinds.AvgPool(window):
            return _blocks(x, window).mean((2, 4))
        case kinds.GlobalAvgPool():
            return x.mean((1, 2))
        case kinds.GroupNorm(groups, eps):
            wide = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
            mean = wide.mean((1, 3), keepdims=True)
            variance = jnp.square(wide - mean).mean((1, 3), keepdims=True)
            normal = ((wide - mean) / jnp.sqrt(variance + eps)).reshape(x.shape)
            shape = (1,) * (x.ndim - 1) + (-1,)
            return normal * kernel.reshape(shape) + bias.reshape(shape)
        case kinds.Activation(name):
            return ACTIVATIONS[name](x)
        case kinds.Flatten():
            return x.reshape(x.shape[0], -1)
        case kinds.Dropout():
            return x
    raise InputError(f"expected a layer of ours for ONNX, got {layer}")


def _blocks(x: Array, window: int) -> Array:
    """Return images as blocks: reduce_window becomes a pool of size 0 (0.17)."""
    rows, columns = (n // window for n in x.shape[1:3])
    x = x[:, : rows * window, : columns * window]
    return x.reshape(x.shape[0], rows, window, columns, window, x.shape[-1])
