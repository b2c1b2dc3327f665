"""Which arrays are cut along the mesh's axis "model": rules by name, first fit.

The names of leaves are those of the parameters; the optimizer's moments carry the same
names behind others, so they are cut alike.
"""

from __future__ import annotations

import math
import re

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

MODEL = "model"

# (end of the leaf's name, how it is cut): features first, for they are independent; a
# layer whose features do not divide is cut along its inputs, at the price of a sum.
RULES = (
    (r"dense_\d+/kernel", P(None, MODEL)),
    (r"dense_\d+/kernel", P(MODEL, None)),
    (r"dense_\d+/bias", P(MODEL)),
)


def partition_specs(tree: PyTree, *, model_devices: int) -> PyTree:
    """Return a `PartitionSpec` for each leaf: of the first rule that matches and fits.

    A rule fits where the axis that it cuts is a multiple of `model_devices`. A leaf
    that no rule fits is P(): whole on every device.
    """

    def spec_of(path: tuple, leaf: jax.Array | jax.ShapeDtypeStruct) -> P:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, spec in RULES:
            if re.search(f"{pattern}$", name) and _fits(
                spec, leaf.shape, model_devices
            ):
                return spec
        return P()

    return jax.tree_util.tree_map_with_path(spec_of, tree)


def _fits(spec: P, shape: tuple[int, ...], model_devices: int) -> bool:
    if model_devices == 1 or len(spec) != len(shape):
        return False
    cut = math.prod(
        size for size, axis in zip(shape, spec, strict=True) if axis is not None
    )
    return cut % model_devices == 0
