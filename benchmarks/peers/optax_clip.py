"""Optax's per-example clipping: rows by vmap(grad) of a Flax module, clipped, summed.

`per_example_global_norm_clip` is what `optax.contrib.differentially_private_aggregate`
clips with, before it draws noise, which nobody here asks for.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import jax
import optax
from case import MAX_NORM, Case, Tree
from contenders import Contender, Task

from peers.flax_form import make_loss
from peers.jax_case import contender_of_gradients


def make(case: Case, task: Task) -> Contender:
    """Build clipped means, or means and norms, each from rows."""
    # Each example is a batch of one.
    rows_of = jax.vmap(jax.grad(make_loss(case)), in_axes=(None, 0, 0, 0))

    def grads_of(
        params: Tree, inputs: jax.Array, labels: jax.Array, key: jax.Array | None
    ) -> tuple[Any, Any]:
        size = len(labels)
        keys = None if key is None else jax.random.split(key, size)
        rows = rows_of(params, inputs[:, None], labels[:, None], keys)
        if task == "norms":
            norms = jax.vmap(optax.tree.norm)(rows)
            means = jax.tree.map(lambda row: row.mean(0), rows)
            return means, {"each": {"grad_norm": norms}}
        leaves, structure = jax.tree.flatten(rows)
        sums: Any
        sums, _ = optax.per_example_global_norm_clip(leaves, MAX_NORM)
        return jax.tree.unflatten(structure, [leaf / size for leaf in sums]), {}

    facts = {"version": version("optax")}
    return contender_of_gradients(case, grads_of, loop="python", facts=facts)
