"""A small loss of one's own, and every way to take its mean gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from strategy_table import PER_EXAMPLE, share_by

from cnnjax import devices
from cnnjax.gradients.factors import make_factors_fn
from cnnjax.gradients.objective import Objective
from cnnjax.gradients.shares import value_and_grad_of
from cnnjax.strategies import STRATEGIES, Options, make_strategy
from cnnjax.types import Batch

RNG = np.random.default_rng(0)
PARAMS = {"head": {"kernel": jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32)}}
PARAMS["head"]["bias"] = jnp.asarray(RNG.normal(size=3), jnp.float32)
BATCH = Batch(
    jnp.asarray(RNG.normal(size=(12, 6)), jnp.float32),
    jnp.asarray(np.arange(12) % 3, jnp.int32),
    jnp.asarray([1.0, 0.5] * 5 + [0.0] * 2, jnp.float32),
    None,
)


def logits_of(params, example, taps=0.0):
    return example @ params["head"]["kernel"] + params["head"]["bias"] + taps


def cross_entropy(params, example, label, taps=0.0):
    logits = logits_of(params, example, taps)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def mean_of_losses(params, weights=BATCH.weights):
    losses = jax.vmap(cross_entropy, (None, 0, 0))(params, *BATCH[:2])
    return jnp.sum(losses * weights) / weights.sum()


def returning(value_fn: Callable) -> Callable:
    """Build a loss that returns value_fn(right loss, params, example, label)."""

    def loss_fn(params, example, label, key):
        del key
        loss = cross_entropy(params, example, label)
        return value_fn(loss, params, example, label)

    return loss_fn


@functools.cache
def forms_of(
    loss_fn: Callable, *, microbatch_size: int | None = None
) -> dict[str, Callable]:
    """Return every way to take the mean gradient of a loss: {name: run(batch)}."""

    def tapped(params, taps, example, label, key):
        del key
        loss = cross_entropy(params, example, label, taps["head"])
        returned = loss_fn.__closure__[0].cell_contents(loss, params, example, label)
        pair = isinstance(returned, tuple) and len(returned) == 2
        loss, metrics = returned if pair else (returned, {})
        return loss, (metrics, {"head": example[None]})

    factors_fn = make_factors_fn(tapped, {"head": jnp.zeros(3)})
    objective = Objective(loss_fn, factors_fn)
    options = Options(devices.make_mesh(2), microbatch_size)
    forms = {}
    for name in STRATEGIES:
        strategy = make_strategy(name, objective, options)

        def run(batch, strategy=strategy):
            params, placed = strategy.put_state(PARAMS), strategy.put_batch(batch)
            return strategy.value_and_grad(params, placed)

        forms[name] = run if strategy.run == "eager" else jax.jit(run)
    for name in PER_EXAMPLE:
        share = share_by(name, objective, 1e9)
        forms[name] = jax.jit(functools.partial(value_and_grad_of(share), PARAMS))
    return forms
