"""The rate of JAX's matrix products, the reference for utilisation."""

from __future__ import annotations

import jax
from case import Case
from contenders import Contender, Task
from jax import lax

SIZE = 2048


def make(case: Case, task: Task) -> Contender:
    """Build a loop of matrix products, each using the previous result."""
    del case, task
    a = jax.random.normal(jax.random.key(0), (SIZE, SIZE)) / SIZE**0.5

    @jax.jit
    def products(a, x, steps):
        return lax.fori_loop(
            0, steps, lambda _, x: lax.dot(a, x, precision="highest"), x
        )

    jax.block_until_ready(products(a, a, 1))

    def run(steps: int) -> None:
        jax.block_until_ready(products(a, a, steps))

    return Contender(
        run, lambda: {}, {"version": jax.__version__, "flops": 2 * SIZE**3}
    )
