"""A network as an ONNX model, by jax2onnx: `pip install -e '.[onnx]'`."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp

from cnnjax.base.errors import InputError
from cnnjax.loaded import LoadedRun

NAME = "network.onnx"


def write(run: LoadedRun, to: Path) -> None:
    """Write network.onnx: float32 raw images [examples, *example] to logits.

    Raises:
        InputError: the packages are not installed, or jax2onnx cannot convert it.
    """
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise InputError(
            "ONNX needs packages that are not installed; pip install -e '.[onnx]'"
        ) from error
    apply_fn, params = run.apply_fn, run.params

    def forward(images: jax.Array) -> jax.Array:
        return jax.vmap(lambda image: apply_fn(params, image))(images)

    shape = ("B", *run.recipe.model.input_shape)
    spec = jax.ShapeDtypeStruct(shape, jnp.float32)
    to_onnx(forward, [spec], return_mode="file", output_path=str(to / NAME))
