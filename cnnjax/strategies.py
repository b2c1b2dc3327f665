"""The table of strategies. Adding one is one function and one row.

A builder takes the loss of one example and returns a `Strategy`. The laws in
`tests/test_strategy_laws.py` go through this table, so a new row is tested at once.
Only what returns the mean gradient is a row.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from cnnjax.errors import unknown_name
from cnnjax.gradients import batch_value_and_grad, serial_value_and_grad
from cnnjax.types import LossFn, Strategy


def copy_to_device(tree: PyTree) -> PyTree:
    """Copy every array to the default device: donation must not delete the caller's."""
    return jax.tree.map(jnp.copy, jax.device_put(tree))


def eager(loss_fn: LossFn) -> Strategy:
    """Run the batch gradient operation by operation, un-jitted.

    Where do the arrays live? On one device. Who takes the mean? The loss, over the
    batch axis. What is communicated? Nothing. When is it not valid? Always valid, and
    slow: each operation is dispatched from Python. Use it to step through with a
    debugger.
    """
    return Strategy(
        value_and_grad=batch_value_and_grad(loss_fn),
        put_state=copy_to_device,
        put_batch=jax.device_put,
        run="eager",
    )


def serial(loss_fn: LossFn) -> Strategy:
    """Go through the batch one example at a time, jitted: the reference.

    Where do the arrays live? On one device. Who takes the mean? A running sum over
    the examples, divided by the sum of their weights. What is communicated? Nothing.
    When is it not valid? Always valid: the other rows are compared with it.
    """
    return Strategy(
        value_and_grad=serial_value_and_grad(loss_fn),
        put_state=copy_to_device,
        put_batch=jax.device_put,
        run="loop",
    )


def jit(loss_fn: LossFn) -> Strategy:
    """Run the batch gradient as one compiled program: parallel per operation.

    Where do the arrays live? On one device, whose compiler splits each operation over
    its cores. Who takes the mean? The loss, over the batch axis. What is communicated?
    Nothing. When is it not valid? Always valid.
    """
    return Strategy(
        value_and_grad=batch_value_and_grad(loss_fn),
        put_state=copy_to_device,
        put_batch=jax.device_put,
        run="loop",
    )


STRATEGIES: dict[str, Callable[[LossFn], Strategy]] = {
    "eager": eager,
    "serial": serial,
    "jit": jit,
}


def make_strategy(name: str, loss_fn: LossFn) -> Strategy:
    """Build the named row of the table for a loss of one example.

    Raises:
        InputError: a name that is not in `STRATEGIES`.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    return STRATEGIES[name](loss_fn)
