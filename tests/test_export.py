"""Each compiled strategy as a program for other platforms, lowered on a CPU."""

from __future__ import annotations

import jax
import pytest
from jax import export
from strategy_table import DIVIDED
from test_strategy_laws import tiny_subject

from cnnjax.laws.comparison import largest_error
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
    subject = tiny_subject(name, num_devices, "float32")
    batch = subject.batch(14, padding=5)
    placed = subject.place(batch)
    value_and_grad = jax.jit(subject.strategy.value_and_grad)
    program = export.export(value_and_grad, platforms=PLATFORMS)(*placed)
    assert program.platforms == PLATFORMS
    assert program.nr_devices == (num_devices or 1)
    _, grads = jax.jit(program.call)(*placed)
    assert largest_error(grads, subject.reference(batch)[1]) <= subject.tolerance
