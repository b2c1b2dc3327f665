"""The inputs of training besides its state, and the batches gathered from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from jaxtyping import Array, Int, Key

from cnnjax.data import order as orders
from cnnjax.training.loop import LoopConfig
from cnnjax.types import Batch, Count, Examples

Calls = Sequence[tuple[int, int]]  # of the program: the first update, and the end


class Feed(NamedTuple):
    """The inputs of the updates besides their state, placed on the devices."""

    examples: Examples
    dropout: Key[Array, "*runs"] | None  # the key of the dropout masks
    # Where in the order of an epoch these examples begin, if they are a window of it
    # (see `streaming`); None: they are all examples, not in order.
    start: Count | None = None

    def for_calls(self, order: Array, calls: Calls) -> Iterator[Feed]:
        """Yield the feed of each call of the program: always this one."""
        return itertools.repeat(self, len(calls))


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
        if feed.start is None:
            batch = orders.take_batch(feed.examples, order, index, batch_size=size)
        else:
            batch = orders.take_from_window(
                feed.examples,
                feed.start,
                index,
                num_examples=order.size,
                batch_size=size,
            )
        if feed.dropout is not None:
            drawn = orders.example_keys(feed.dropout, step, batch_size=size)
            batch = batch._replace(keys=drawn)
        return put_batch(batch)

    return batch_of
