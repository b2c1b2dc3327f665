"""Loss and metrics over a whole set: every example counted once, at any batch size."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num, PyTree

from cnnjax.data.order import num_batches, take_batch
from cnnjax.settings import check_settings, compiled
from cnnjax.trees import at_least_float32, zeros_like_output
from cnnjax.types import Batch, Count, Examples, LossFn, Params

# Of each device. Larger ones leave the cache: 10 to 50 % slower on a CPU.
BATCH_SIZE = 50


def sum_metrics(loss_fn: LossFn) -> Callable[[Params, Batch], dict[str, Array]]:
    """Build `sums(params, batch)`: each metric's weighted sum, and the "weight"."""

    def sums(params: Params, batch: Batch) -> dict[str, Array]:
        losses, metrics = jax.vmap(loss_fn, in_axes=(None, 0, 0, None))(
            params, batch.inputs, batch.labels, None
        )
        values = {"loss": losses, **metrics, "weight": jnp.ones_like(losses)}
        dtype = at_least_float32(losses.dtype)
        return {
            name: jnp.sum(value.astype(dtype) * batch.weights.astype(dtype))
            for name, value in values.items()
        }

    return sums


def make_evaluate(
    loss_fn: LossFn,
    examples: Examples,
    params: Params,
    *,
    batch_size: int = BATCH_SIZE,
    put_state: Callable[[PyTree], PyTree] = jax.device_put,
    put_batch: Callable[[Batch], Batch] = jax.device_put,
) -> Callable[..., dict[str, float]]:
    """Compile `evaluate(params) -> {"loss", ..., "examples"}`: means over all examples.

    `evaluate(params, others)` takes other examples of the same shapes. Runs without
    dropout. "examples" is the number that was counted, which is always
    all of them. `params` gives shapes and placement only. A strategy's `put_state` and
    `put_batch` divide the work as they divide its training; `batch_size` is of each
    device. Of several processes, each must call `evaluate`, and each has the result.

    Raises:
        InputError: a JAX setting is in the way.
    """
    check_settings()
    num_examples = len(examples.labels)
    sums = sum_metrics(loss_fn)
    order = np.arange(num_examples, dtype=np.int32)

    def batch_of(examples: Examples, order: Array, index: Count, *, size: int) -> Batch:
        return put_batch(take_batch(examples, order, index, batch_size=size))

    def place(examples: Examples) -> tuple[Examples, Array]:
        return put_state((Examples(*examples), order))

    placed = place(examples)
    # A batch of one is filled up to one for each device that shares the work.
    one = jax.eval_shape(functools.partial(batch_of, size=1), *placed, 0)
    num_parts = one.weights.size
    size = min(batch_size, -(-num_examples // num_parts)) * num_parts

    def total(params: Params, examples: Examples, order: Array) -> dict[str, Array]:
        def sums_of(index: Count) -> dict[str, Array]:
            return sums(params, batch_of(examples, order, index, size=size))

        return lax.fori_loop(
            0,
            num_batches(num_examples, size),
            lambda index, totals: jax.tree.map(jnp.add, totals, sums_of(index)),
            zeros_like_output(sums_of, jnp.int32(0)),
        )

    program = compiled(total, params, *placed)

    def evaluate(params: Params, others: Examples | None = None) -> dict[str, float]:
        of = placed if others is None else place(others)
        totals = {k: float(v) for k, v in program(params, *of).items()}
        weight = totals.pop("weight")
        means = {name: value / weight for name, value in totals.items()}
        assert round(weight) == num_examples  # each of them once
        return {**means, "examples": num_examples}

    return evaluate


def make_predict(
    apply_fn: Callable[..., Float[Array, " classes"]], examples: Examples
) -> Callable[[Params], Int[np.ndarray, " examples"]]:
    """Build `predict(params)`: the class of every example, in their order.

    Of equal logits the first is the prediction. `apply_fn` takes one raw example.

    Raises:
        InputError: a JAX setting is in the way.
    """
    check_settings()
    num_examples = len(examples.labels)

    @jax.jit
    def classes(params: Params, inputs: Num[Array, "examples *example"]) -> Array:
        return lax.map(
            lambda example: jnp.argmax(apply_fn(params, example)),
            inputs,
            batch_size=min(BATCH_SIZE, num_examples),
        )

    def predict(params: Params) -> Int[np.ndarray, " examples"]:
        return np.asarray(classes(params, jnp.asarray(examples.inputs)))

    return predict
