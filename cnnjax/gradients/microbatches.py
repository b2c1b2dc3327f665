"""Microbatches (gradient accumulation): less memory, the same sum.

The optimizer still gets one gradient for the entire batch, and a schedule still counts
optimizer steps, not microbatches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import lax
from jaxtyping import Array

from cnnjax.base.arguments import at_least
from cnnjax.base.errors import expect
from cnnjax.base.trees import typed_like, widen, zeros_like
from cnnjax.gradients.padding import pad_batch
from cnnjax.gradients.shares import Share, ShareFn
from cnnjax.types import Batch, Params


class Grouping(NamedTuple):
    """How the examples of an array are divided into microbatches of equal size."""

    split: Callable[[Array, int], Array]  # (array, size) -> [parts, size, ...]
    join: Callable[[Array], Array]  # its inverse


# Microbatch j has examples j size, j size + 1, ...: no example moves in memory.
CONTIGUOUS = Grouping(
    lambda a, size: a.reshape(-1, size, *a.shape[1:]),
    lambda a: a.reshape(-1, *a.shape[2:]),
)
# Of n microbatches, number j has examples j, j + n, ... If a batch is divided over
# several devices, each microbatch then has examples from every device. A microbatch of
# neighbouring examples would lie on one device, and the compiler would make every
# device do all of the work.
STRIDED = Grouping(
    lambda a, size: a.reshape(size, -1, *a.shape[1:]).swapaxes(0, 1),
    lambda a: a.swapaxes(0, 1).reshape(-1, *a.shape[2:]),
)


def microbatched(
    share: ShareFn, *, size: int, grouping: Grouping = CONTIGUOUS
) -> ShareFn:
    """Compute a share in microbatches of `size` examples, and add their shares up.

    Shares are added in at least float32, whatever the type of the parameters. A batch
    whose size is not a multiple of `size` is padded with copies at weight 0. The values
    kept for each example are returned in the order of the batch.

    Raises:
        InputError: a `size` below 1; or, while it is traced, a `size` larger than the
            batch, or than a device's part of it.
    """
    size = at_least(1)("microbatch_size", size)

    def total_share(params: Params, batch: Batch, total: Array) -> Share:
        num_examples = batch.weights.shape[0]
        what = f"microbatch_size of at most the {num_examples} examples to take it from"
        expect(what, size, size <= num_examples)
        parts = jax.tree.map(lambda a: grouping.split(a, size), pad_batch(batch, size))

        def add(sums, part: Batch):
            means, grads, each = share(params, part, total)
            added = jax.tree.map(lambda s, a: s + widen(a), sums, (means, grads))
            return added, each

        first = jax.tree.map(lambda a: a[0], parts)
        means, grads, _ = zeros_like(jax.eval_shape(share, params, first, total))
        zeros = jax.tree.map(widen, (means, grads))
        (means, grads), each = lax.scan(add, zeros, parts)
        each = jax.tree.map(lambda a: grouping.join(a)[:num_examples], each)
        return Share(means, typed_like(grads, params), each)

    return total_share
