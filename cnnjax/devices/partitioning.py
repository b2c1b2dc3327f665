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

from cnnjax.base.errors import InputError
from cnnjax.types import Params

MODEL = "model"

# Dense layers as they are named here, and as Flax names those of an own module.
DENSE = r"[Dd]ense_\d+"

# (end of the leaf's name, how it is cut): features first, for they are independent; a
# layer whose features do not divide is cut along its inputs, at the price of a sum.
RULES = (
    (f"{DENSE}/kernel", P(None, MODEL)),
    (f"{DENSE}/kernel", P(MODEL, None)),
    (f"{DENSE}/bias", P(MODEL)),
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


def check_cuts(params: Params, *, model_devices: int) -> None:
    """Raise InputError where devices along "model" have nothing to cut.

    Each would hold and compute what the others do, without a word.
    """
    specs = partition_specs(params, model_devices=model_devices)
    leaves = jax.tree.leaves(specs, is_leaf=lambda spec: isinstance(spec, P))
    if model_devices > 1 and not any(leaves):
        raise InputError(
            f"expected a kernel of a layer dense_N (or Dense_N) that {model_devices} "
            "model_devices can share, got none; use model_devices=1"
        )


def _fits(spec: P, shape: tuple[int, ...], model_devices: int) -> bool:
    if model_devices == 1 or len(spec) != len(shape):
        return False
    cut = math.prod(
        size for size, axis in zip(shape, spec, strict=True) if axis is not None
    )
    return cut % model_devices == 0
