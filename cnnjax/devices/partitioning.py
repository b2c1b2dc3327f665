"""Which arrays are partitioned along the mesh's axis "model": rules by name.

The first rule that fits a leaf is used. The paths of the optimizer's moments end with
the names of their parameters, so they are partitioned in the same way.
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

# Dense layers as they are named here, and as Flax names those of your own module.
DENSE = r"[Dd]ense_\d+"

# (end of the leaf's name, how it is partitioned): along features first, as these are
# independent. If the features cannot be divided evenly, a kernel is partitioned along
# its inputs, which costs a sum over devices.
RULES = (
    (f"{DENSE}/kernel", P(None, MODEL)),
    (f"{DENSE}/kernel", P(MODEL, None)),
    (f"{DENSE}/bias", P(MODEL)),
)


def partition_specs(tree: PyTree, *, model_devices: int) -> PyTree:
    """Return a `PartitionSpec` for each leaf, by the first rule that matches and fits.

    A rule fits if the axis that it partitions is a multiple of `model_devices`. A leaf
    that no rule fits has the spec P(): a full copy on every device.
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
    """Raise InputError if no parameter can be partitioned along "model".

    All devices along "model" would silently hold and compute the same.
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
