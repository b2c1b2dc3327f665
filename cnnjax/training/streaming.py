"""Examples that stay on the host, for data sets that are larger than a device.

A call of the program makes some updates. Grain gathers their examples, a *window*, in
the order of the epoch, while the devices make the updates before. Order, keys and
batches are those of examples on the devices, so the results are the same bits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Array, Int, Key

from cnnjax.training.feed import Calls, Feed
from cnnjax.training.loop import LoopConfig
from cnnjax.types import Examples

AHEAD = 2  # windows that are gathered before they are needed, each by a thread


class Stream(NamedTuple):
    """Examples on the host, of which a window at a time is placed on the devices."""

    examples: Examples
    dropout: Key[Array, ""] | None
    put: Callable[[Feed], Feed]  # it need not wait for the copy to the devices
    batch_size: int
    rows: int  # of a window

    def for_calls(self, order: Array, calls: Calls) -> Iterator[Feed]:
        """Yield the feed of each call of the program: the examples of its updates."""
        import grain  # it takes a second, which others need not wait for

        if not calls:
            return
        starts = [first * self.batch_size for first, _ in calls]
        windows = Windows(self.examples, np.asarray(order), starts, self.rows)
        ahead = grain.ReadOptions(num_threads=AHEAD, prefetch_buffer_size=AHEAD)
        loaded = grain.MapDataset.source(windows).to_iter_dataset(ahead)
        ready = None
        for start, window in zip(starts, loaded, strict=True):
            coming = self.put(Feed(window, self.dropout, np.int32(start)))
            if ready is not None:
                yield ready  # while that which is coming is copied
            ready = coming
        if ready is not None:
            yield ready


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of an epoch, as Grain reads them: by number, from any thread."""

    examples: Examples
    order: Int[np.ndarray, " examples"]
    starts: Sequence[int]  # places in the order
    rows: int

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: SupportsIndex) -> Examples:
        """Return a window; a last one is filled up with copies of its last example."""
        places = self.starts[operator.index(index)] + np.arange(self.rows)
        chosen = self.order[np.minimum(places, self.order.size - 1)]
        return Examples(*(array[chosen] for array in self.examples))


def rows_of_window(config: LoopConfig, num_examples: int) -> int:
    """Return how many examples a window has: at most those of an epoch."""
    assert config.stream is not None
    return min(config.stream * config.batch_size, num_examples)


def empty_window(examples: Examples, rows: int) -> Examples:
    """Return a window of zeros: examples of these shapes and types."""
    return Examples(*(np.zeros((rows, *a.shape[1:]), a.dtype) for a in examples))
