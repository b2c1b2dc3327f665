"""Loss and metrics over all examples, each counted once, at any batch size."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num, PyTree

from cnnjax.base.arguments import at_least, function
from cnnjax.base.errors import InputError, expect
from cnnjax.base.leaves import first_difference
from cnnjax.base.settings import check_settings, compiled
from cnnjax.data.checks import check_alike, check_examples
from cnnjax.data.order import num_batches, take_batch
from cnnjax.models.contract import checked
from cnnjax.models.losses import predicted_class
from cnnjax.types import Batch, Count, Examples, LossFn, Params

# Per device. Larger batches do not fit into the cache: 10 to 50 % slower on a CPU.
BATCH_SIZE = 50


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

    `evaluate(params, others)` evaluates other examples of the same shapes. Dropout is
    off. "examples" is the number of examples. `params` is used only for its shapes and
    placement. A strategy's `put_state` and `put_batch` divide the work in the same way
    as in training; `batch_size` is per device. With several processes, each must call
    `evaluate`, and each gets the result.

    Raises:
        InputError: an argument that is not a function, not a tree of parameters, a
            batch size below 1, or examples that cannot be used; from `evaluate`,
            parameters or examples with other shapes; or a JAX setting under which this
            cannot run.
    """
    check_settings()
    function("loss_fn", loss_fn)
    function("put_state", put_state)
    function("put_batch", put_batch)
    shapes = _shapes(params)
    batch_size = at_least(1)("batch_size", batch_size)
    examples = check_examples(examples)
    num_examples = len(examples.labels)
    values_of = jax.vmap(checked(loss_fn), in_axes=(None, 0, 0, None))
    order = np.arange(num_examples, dtype=np.int32)

    def batch_of(examples: Examples, order: Array, index: Count, *, size: int) -> Batch:
        return put_batch(take_batch(examples, order, index, batch_size=size))

    def place(examples: Examples) -> tuple[Examples, Array]:
        return put_state((Examples(*examples), order))

    # A copy: on a CPU, a placed array can share the caller's memory, which may change.
    placed = place(jax.tree.map(np.array, examples))
    # A batch of one example is padded to one example per device: this counts devices.
    one = jax.eval_shape(functools.partial(batch_of, size=1), *placed, 0)
    num_parts = one.weights.size
    size = min(batch_size, -(-num_examples // num_parts)) * num_parts

    def sums_by_batch(
        params: Params, examples: Examples, order: Array
    ) -> dict[str, Float[Array, " batches"]]:
        def sums_of(index: Count) -> dict[str, Array]:
            batch = batch_of(examples, order, index, size=size)
            _, values = values_of(params, batch.inputs, batch.labels, None)
            values["weight"] = jnp.ones_like(values["loss"])
            return {
                name: jnp.sum(value * batch.weights.astype(value.dtype))
                for name, value in values.items()
            }

        return lax.map(
            sums_of, jnp.arange(num_batches(num_examples, size), dtype=jnp.int32)
        )

    program = compiled(sums_by_batch, params, *placed)

    def evaluate(params: Params, others: Examples | None = None) -> dict[str, float]:
        if (different := first_difference(_shapes(params), shapes)) is not None:
            leaf, ours, theirs = different
            raise InputError(
                f"expected params{leaf} of {ours}, as compiled for, got {theirs}; "
                "compile for these parameters"
            )
        of = placed
        if others is not None:
            others = check_examples(others)
            check_alike(others, examples)
            of = place(others)
        # Summed here, in float64: float32 cannot count past 16,777,216 examples.
        sums = {name: np.asarray(v) for name, v in program(params, *of).items()}
        totals = {name: float(v.sum(dtype=np.float64)) for name, v in sums.items()}
        weight = totals.pop("weight")
        means = {name: value / weight for name, value in totals.items()}
        assert round(weight) == num_examples  # each example exactly once
        return {**means, "examples": num_examples}

    return evaluate


def _shapes(params: Params) -> PyTree:
    """Return types and shapes of parameters; raise InputError if they are no arrays."""
    try:
        shapes = jax.eval_shape(lambda tree: tree, params)
    except TypeError:
        shapes = None
    expect("params to be a tree of arrays", params, shapes is not None)
    return shapes


def make_predict(
    apply_fn: Callable[..., Float[Array, " classes"]], examples: Examples
) -> Callable[[Params], Int[np.ndarray, " examples"]]:
    """Build `predict(params)`: `losses.predicted_class` of every example, in order.

    It is NO_PREDICTION, -1, where the logits define no class. `apply_fn` takes one raw
    example.

    Raises:
        InputError: not a function, examples that cannot be used, or a JAX setting under
            which this cannot run.
    """
    check_settings()
    function("apply_fn", apply_fn)
    examples = check_examples(examples)
    held = jnp.array(examples.inputs)  # a copy, which the caller cannot change

    @jax.jit
    def classes(params: Params, inputs: Num[Array, "examples *example"]) -> Array:
        def class_of(example: Num[Array, "*example"]) -> Array:
            return predicted_class(apply_fn(params, example))

        return map_examples(class_of, inputs)

    def predict(params: Params) -> Int[np.ndarray, " examples"]:
        return np.asarray(classes(params, held))

    return predict


def map_examples(
    function_of_one: Callable[[Array], Array],
    inputs: Num[Array, "examples *example"],
) -> Array:
    """Apply a function of one example to each of several, in batches of one size.

    The last batch is filled up with the first examples, whose outputs are cut off:
    `lax.map` with a `batch_size` would compile the function twice, for the batches and
    for the rest.
    """
    num_examples, *shape = inputs.shape
    batches = max(1, num_batches(num_examples, BATCH_SIZE))
    size = -(-num_examples // batches)
    whole = jnp.concatenate([inputs, inputs[: batches * size - num_examples]])
    outputs = lax.map(jax.vmap(function_of_one), whole.reshape(batches, size, *shape))
    return outputs.reshape(batches * size, *outputs.shape[2:])[:num_examples]
