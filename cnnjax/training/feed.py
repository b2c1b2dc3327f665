"""The constant inputs of training, and the batches that are gathered from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Int, Key

from cnnjax.data import order as orders
from cnnjax.training.loop import LoopConfig
from cnnjax.types import Batch, Count, Examples


class Feed(NamedTuple):
    """The constant inputs of the updates, placed on the devices."""

    examples: Examples
    dropout: Key[Array, "*runs"] | None  # the key of the dropout masks


# batch_of(feed, order, index, step): the batch of one update, placed.
BatchFn = Callable[[Feed, Int[Array, " examples"], Count, Count], Batch]


def make_batch_fn(config: LoopConfig, put_batch: Callable[[Batch], Batch]) -> BatchFn:
    """Build `batch_of(feed, order, index, step)` for one run.

    It gathers batch number `index` of an epoch, adds one key per example if there is
    dropout, and places the batch.
    """

    def batch_of(
        feed: Feed, order: Int[Array, " examples"], index: Count, step: Count
    ) -> Batch:
        size = config.batch_size
        batch = orders.take_batch(feed.examples, order, index, batch_size=size)
        if feed.dropout is not None:
            drawn = orders.example_keys(feed.dropout, step, batch_size=size)
            batch = batch._replace(keys=drawn)
        return put_batch(batch)

    return batch_of
