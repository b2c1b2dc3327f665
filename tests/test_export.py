"""Each compiled strategy as a program for other platforms, lowered on a CPU."""

from __future__ import annotations

import jax
import pytest
from batches import make_batch
from jax import export
from strategy_table import DIVIDED
from test_strategy_laws import jitted_reference, tiny_case, tiny_experiment

from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.strategies import STRATEGIES

PLATFORMS = ("cpu", "cuda", "tpu")


def cases() -> list:
    """List the compiled rows; all but one of a kind as slow ones."""
    quick = ("jit", "sharded", "shard_map", "pmap")
    return [
        pytest.param(name, marks=[] if name in quick else [pytest.mark.slow])
        for name in STRATEGIES
        if name != "eager"
    ]


@pytest.mark.parametrize("name", cases())
def test_a_strategy_is_exported_for_every_platform(name):
    """The platform is chosen while it is lowered, never while it is traced."""
    num_devices = 4 if name in DIVIDED else None
    experiment, case = (
        tiny_experiment("float32"),
        tiny_case(name, num_devices, "float32"),
    )
    batch = make_batch(experiment, 14, padding=5)
    placed = case.place(batch)
    value_and_grad = jax.jit(case.strategy.value_and_grad)
    program = export.export(value_and_grad, platforms=PLATFORMS)(*placed)
    assert program.platforms == PLATFORMS
    assert program.nr_devices == (num_devices or 1)
    _, grads = jax.jit(program.call)(*placed)
    _, expected = jitted_reference(experiment.loss_fn)(experiment.params, batch)
    assert largest_error(grads, expected) <= TOLERANCES["float32"]
