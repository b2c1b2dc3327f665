"""Loss and metrics over a whole set: every example counted once, at any batch size."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from cnnjax.data.order import num_batches, take_batch
from cnnjax.trees import at_least_float32, zeros_like_output
from cnnjax.types import Batch, Examples, LossFn, Params

BATCH_SIZE = 50  # larger ones leave the cache: 10 to 50 % slower on a CPU


def sum_metrics(loss_fn: LossFn) -> Callable[[Params, Batch], dict[str, Array]]:
    """Build `sums(params, batch)`: each metric's weighted sum, and the "weight"."""

    def sums(params: Params, batch: Batch) -> dict[str, Array]:
        losses, metrics = jax.vmap(loss_fn, in_axes=(None, 0, 0, None))(
            params, batch.inputs, batch.labels, None
        )
        values = {"loss": losses, **metrics, "weight": jnp.ones_like(losses)}
        dtype = at_least_float32(losses.dtype)
        return {
            name: jnp.sum(value.astype(dtype) * batch.weights)
            for name, value in values.items()
        }

    return sums


def make_evaluate(
    loss_fn: LossFn,
    examples: Examples,
    params: Params,
    *,
    batch_size: int = BATCH_SIZE,
) -> Callable[[Params], dict[str, float]]:
    """Compile `evaluate(params) -> {"loss", ..., "examples"}`: means over all examples.

    Runs without dropout. "examples" is the number that was counted, which is always
    all of them. `params` gives shapes and placement only.
    """
    num_examples = len(examples.labels)
    batch_size = min(batch_size, num_examples)
    sums = sum_metrics(loss_fn)
    order = np.arange(num_examples, dtype=np.int32)

    def total(params: Params, examples: Examples, order: Array) -> dict[str, Array]:
        def sums_of(index: Int[Array, ""]) -> dict[str, Array]:
            batch = take_batch(examples, order, index, batch_size=batch_size)
            return sums(params, batch)

        return lax.fori_loop(
            0,
            num_batches(num_examples, batch_size),
            lambda index, totals: jax.tree.map(jnp.add, totals, sums_of(index)),
            zeros_like_output(sums_of, jnp.int32(0)),
        )

    on_device = jax.device_put((Examples(*examples), order))
    program = jax.jit(total).lower(params, *on_device).compile()

    def evaluate(params: Params) -> dict[str, float]:
        totals = {k: float(v) for k, v in program(params, *on_device).items()}
        weight = totals.pop("weight")
        means = {name: value / weight for name, value in totals.items()}
        assert round(weight) == num_examples  # each of them once
        return {**means, "examples": num_examples}

    return evaluate
