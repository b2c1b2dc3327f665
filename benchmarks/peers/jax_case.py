"""A case in JAX: examples on the device, the optimizer, and the loop over updates.

What the peers share that are JAX libraries. Data lies on the device as float32, scaled;
each update gathers its batch by index. `loop` is "python" (one compiled update a call,
as most examples have it) or "scan" (many updates in one compiled loop, as cnnjax).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from case import Case, Layer, Tree
from contenders import Contender
from jax import lax

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    # jax.nn.leaky_relu has another derivative at 0, where a blank background lies.
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.001 * x),
}
KERNELS = ("kernel", "weight")  # what L2 is of, as Flax and Equinox name it

Update = Callable[..., Any]  # (state, inputs, labels, rows) -> the next state


class Examples(NamedTuple):
    """The training examples on the device, and which of them a batch has."""

    inputs: jax.Array  # [examples, height, width, channels], float32
    labels: jax.Array  # [examples], integers
    batches: np.ndarray  # the rows of each whole batch: [batches, batch], integers


class Frozen(dict):
    """A dictionary that is not changed, and so may be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def put_examples(case: Case) -> Examples:
    """Put the training examples on the device."""
    inputs, labels = case.array("train_inputs"), case.array("train_labels")
    return Examples(jnp.asarray(inputs), jnp.asarray(labels), case.batches())


def frozen_layers(case: Case) -> tuple[Layer, ...]:
    """Return the layers so that a module may have them as a field: hashable."""
    return tuple(layer._replace(value=Frozen(layer.value)) for layer in case.layers)


def make_optimizer(case: Case) -> optax.GradientTransformation:
    """Build the same optimizer from Optax, with a constant rate: L2 on kernels only."""
    config = case.facts["optimizer"]
    algorithm, rate = config["algorithm"], config["learning_rate"]
    if algorithm["type"] == "Adam":
        rule = optax.adam(
            rate, b1=algorithm["b1"], b2=algorithm["b2"], eps=algorithm["eps"]
        )
    else:
        rule = optax.sgd(rate, momentum=algorithm["momentum"] or None)
    kernels = partial(jax.tree_util.tree_map_with_path, _is_kernel)
    return optax.chain(optax.add_decayed_weights(config["l2"], mask=kernels), rule)


def _is_kernel(path: tuple, _: Any) -> bool:
    return any(name in jax.tree_util.keystr(path) for name in KERNELS)


def contender_of_gradients(
    case: Case,
    grads_of: Callable[..., tuple[Any, Any]],
    *,
    loop: str,
    facts: Mapping[str, Any],
) -> Contender:
    """Build a training loop, of parameters in our layout, from what makes gradients.

    `grads_of(params, inputs, labels, key)` is of a batch, without dropout if key is
    None. It returns the gradients that the optimizer is given, and {"each":
    {"grad_norm": [batch]}}, float32, or {}.
    """
    optimizer, examples = make_optimizer(case), put_examples(case)

    def update(state: Any, inputs: jax.Array, labels: jax.Array, rows: Any) -> Any:
        params, opt_state, key, _ = state
        key, own = jax.random.split(key)
        grads, each = grads_of(params, inputs[rows], labels[rows], own)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, key, each

    params = jax.tree.map(jnp.asarray, case.params)
    key = jax.random.key(0)
    first = examples.batches[0]
    batch = examples.inputs[first], examples.labels[first]
    shapes = jax.eval_shape(grads_of, params, *batch, key)[1]
    each = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    state = (params, optimizer.init(params), key, each)

    def result() -> Tree:
        grads, each = jax.jit(grads_of)(params, *batch, None)
        return {**grads, **each}

    one, many = jax.jit(update), jax.jit(partial(loop_over, update))
    return Contender(
        make_run(state, examples, one=one, many=many, loop=loop), result, facts
    )


def loop_over(
    update: Update,
    state: Any,
    inputs: jax.Array,
    labels: jax.Array,
    batches: Any,
    first: Any,
    stop: Any,
) -> Any:
    """Make the updates first to stop - 1 in one compiled loop; return the state."""

    def step(at: Any, state: Any) -> Any:
        return update(state, inputs, labels, batches[at % len(batches)])

    return lax.fori_loop(first, stop, step, state)


def make_run(
    state: Any, examples: Examples, *, one: Update, many: Update, loop: str
) -> Callable[[int], None]:
    """Return what makes so many updates and waits for the state that they end in.

    `one(state, inputs, labels, rows)` makes an update, `many(state, inputs, labels,
    batches, first, stop)` makes several; both are compiled, and return the next state.
    """
    inputs, labels, batches = examples
    at = 0

    def run(steps: int) -> None:
        nonlocal state, at
        if loop == "scan":
            state = many(state, inputs, labels, batches, at, at + steps)
        else:
            for index in range(at, at + steps):
                state = one(state, inputs, labels, batches[index % len(batches)])
        at += steps
        jax.block_until_ready(state)

    return run
