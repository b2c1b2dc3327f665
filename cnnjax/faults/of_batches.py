"""Faults of the batch of a gradient: its weights, keys and examples."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnjax.base.settings import new_key
from cnnjax.faults.fault import Builder, Fault, of_value_and_grad
from cnnjax.faults.needs import DROPOUT, SEVERAL_EXAMPLES, Needs
from cnnjax.types import Batch, Metrics, Params, ValueAndGradFn


def of_batch(change: Callable[[Batch], Batch]) -> Callable[[Builder], Builder]:
    """Build the `corrupt` that changes the batch before the right gradient uses it."""

    def wrong(right: ValueAndGradFn) -> ValueAndGradFn:
        def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
            return right(params, change(batch))

        return value_and_grad

    return of_value_and_grad(wrong)


def ignore_weights(batch: Batch) -> Batch:
    """Give every example the weight 1, including padding."""
    return batch._replace(weights=jnp.ones_like(batch.weights))


def share_first_key(batch: Batch) -> Batch:
    """Give every example the key of the first one."""
    assert batch.keys is not None
    return batch._replace(keys=jnp.broadcast_to(batch.keys[0], batch.keys.shape))


def key_positions(batch: Batch) -> Batch:
    """Give each position in the batch its own key, whatever example is there."""
    keys = jax.random.split(new_key(0), batch.weights.shape[0])
    return batch._replace(keys=keys)


def drop_second_half(batch: Batch) -> Batch:
    """Remove the second half of the examples from the mean."""
    count = jnp.count_nonzero(batch.weights)
    first = jnp.arange(batch.weights.shape[0]) < (count + 1) // 2
    return batch._replace(weights=jnp.where(first, batch.weights, 0))


FAULTS = (
    Fault(
        name="weights_ignored",
        summary="All examples have the same weight, including the copies that pad a "
        "batch.",
        seen="A loss that takes the mean of a padded batch: wrong if the last batch of "
        "an epoch is short.",
        needs=Needs(recipe=(SEVERAL_EXAMPLES,)),
        corrupt=of_batch(ignore_weights),
        replaces=("weights", "padding"),
    ),
    Fault(
        name="one_dropout_mask_for_all",
        summary="All examples of a batch drop the same units.",
        seen="A key that a vmap closes over instead of mapping.",
        needs=Needs(recipe=(SEVERAL_EXAMPLES, DROPOUT)),
        corrupt=of_batch(share_first_key),
        parts=("keys",),
    ),
    Fault(
        name="keys_by_position",
        summary="The dropout mask depends on the position in the batch, not on the "
        "example.",
        seen="Keys split in the step, after the batch was divided or permuted; here "
        "from one constant, so that every step has the same masks.",
        needs=Needs(recipe=(SEVERAL_EXAMPLES, DROPOUT)),
        corrupt=of_batch(key_positions),
        replaces=("keys",),
    ),
    Fault(
        name="gradient_of_first_half",
        summary="Only the first half of the examples is in the gradient.",
        seen="A loop over microbatches that stops early, or drops the last one.",
        needs=Needs(recipe=(SEVERAL_EXAMPLES,)),
        corrupt=of_batch(drop_second_half),
        parts=("weights",),
    ),
)
