"""bfloat16 arithmetic: parameters, gradients and the optimizer stay float32."""

from __future__ import annotations

import functools

import jax
import pytest
from batches import TINY, experiment_of, jitted_serial, make_batch

from cnnjax import parallel
from cnnjax.comparison import TOLERANCES, largest_error
from cnnjax.runs import run
from cnnjax.strategies import DIVIDED, STRATEGIES


@functools.cache
def experiments():
    return experiment_of(TINY), experiment_of(TINY, precision="bfloat16", epochs=4)


@pytest.mark.parametrize("name", STRATEGIES)
def test_gradients_are_float32_and_near_those_of_float32(name):
    tiny, half = experiments()
    mesh = parallel.make_mesh(4) if name in DIVIDED else None
    strategy = STRATEGIES[name](half.loss_fn, half.options._replace(mesh=mesh))
    batch = make_batch(tiny, 16)
    _, expected = jitted_serial(tiny.loss_fn)(tiny.params, batch)
    params = strategy.put_state(half.params)
    compiled = strategy.run != "eager"
    run = jax.jit(strategy.value_and_grad) if compiled else strategy.value_and_grad
    _, grads = run(params, strategy.put_batch(batch))
    error = largest_error(grads, expected)  # which compares the dtypes, too
    assert 1e-4 < error <= TOLERANCES["bfloat16"]  # and it did compute in bfloat16


def test_a_network_learns_in_bfloat16():
    _, half = experiments()
    result = run(half)
    losses = [record.train["loss"] for record in result.records]
    assert losses[-1] < 0.9 * losses[0]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(result.params)} == {"float32"}
