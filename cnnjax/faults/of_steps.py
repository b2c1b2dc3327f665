"""Faults around the gradient: the placement of arrays, and side effects of a step.

The gradient is right, but they cost time, memory or the caller's arrays.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from cnnjax.devices.maps import copy_to_device
from cnnjax.faults.fault import Fault, of_strategy, of_value_and_grad
from cnnjax.faults.needs import SEVERAL_EXAMPLES, Needs
from cnnjax.strategies import names_of
from cnnjax.types import Batch, Metrics, Params, Strategy, ValueAndGradFn


def alias_state(right: Strategy) -> Strategy:
    """Place the state without a copy: its donation deletes the caller's arrays."""

    def put_state(tree: PyTree) -> PyTree:
        placed = right.put_state(tree)
        return jax.tree.map(lambda a, p: jax.device_put(a, p.sharding), tree, placed)

    return right._replace(put_state=put_state)


def leave_state(right: Strategy) -> Strategy:
    """Leave the state on one device, whatever devices the batch is on."""
    return right._replace(put_state=copy_to_device, run="step")


def drop_padding(right: Strategy) -> Strategy:
    """Remove padded examples, so that each short batch needs its own program."""

    def put_batch(batch: Batch) -> Batch:
        if not _is_traced(batch):
            kept = np.flatnonzero(np.asarray(batch.weights))
            batch = jax.tree.map(lambda a: a[kept], batch)
        return right.put_batch(batch)

    return right._replace(put_batch=put_batch, run="step")


def keep_on_host(right: Strategy) -> Strategy:
    """Pass NumPy arrays (except keys) to the step, which copies them to the device."""

    def put_batch(batch: Batch) -> Batch:
        placed = right.put_batch(batch)
        if _is_traced(batch):
            return placed
        arrays = jax.tree.map(np.asarray, placed._replace(keys=None))
        return arrays._replace(keys=placed.keys)

    return right._replace(put_batch=put_batch, run="step")


def call_back(right: ValueAndGradFn) -> ValueAndGradFn:
    """Call Python with the loss from inside the compiled step."""

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        metrics, grads = right(params, batch)
        jax.debug.callback(_look_at, metrics.means["loss"])
        return metrics, grads

    return value_and_grad


def _look_at(loss: object) -> None:
    """Do nothing: the call itself is the cost."""


def _is_traced(batch: Batch) -> bool:
    # The shapes of a step's results are computed by tracing it first.
    return isinstance(batch.weights, Tracer)


COMPILED = names_of(run="loop")
_COMPILED = Needs(strategies=COMPILED)

FAULTS = (
    Fault(
        name="state_is_not_copied",
        summary="Training deletes the caller's parameters.",
        seen="device_put, which can alias, before a step that donates its state.",
        needs=_COMPILED,
        corrupt=of_strategy(alias_state),
        parts=("placement of the state",),
    ),
    Fault(
        name="state_on_one_device",
        summary="Parameters are on one device, and gradients on all devices.",
        seen="Parameters used as init returned them: the first step replicates them, "
        "and the second compiles again.",
        needs=Needs(strategies=names_of(divides=True), num_devices=2),
        corrupt=of_strategy(leave_state),
        replaces=("placement of the state",),
    ),
    Fault(
        name="shape_follows_the_padding",
        summary="A short batch has another shape, so another program is compiled.",
        seen="The last batch of an epoch passed to a jitted step without padding.",
        needs=Needs(strategies=COMPILED, recipe=(SEVERAL_EXAMPLES,)),
        corrupt=of_strategy(drop_padding),
        parts=("placement of batches",),
        replaces=("padding",),
    ),
    Fault(
        name="batch_on_the_host",
        summary="Each step copies its batch from the host, and waits for it.",
        seen="NumPy batches from a loader passed straight to a jitted step.",
        needs=_COMPILED,
        corrupt=of_strategy(keep_on_host),
        parts=("placement of batches",),
    ),
    Fault(
        name="callback_in_the_step",
        summary="The compiled step calls Python at every update.",
        seen="A jax.debug.print or a progress report left in the code; on a TPU or GPU "
        "the step waits for the host.",
        needs=_COMPILED,
        corrupt=of_value_and_grad(call_back),
        parts=("gradient",),
    ),
)
