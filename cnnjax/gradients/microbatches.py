"""Part of a batch at a time: less memory, the same sum.

This is gradient accumulation. The optimizer sees one gradient, of the whole batch, and
a schedule counts optimizer steps: microbatches change neither.
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


class Cut(NamedTuple):
    """How the rows of an array are shared out among parts of equal size."""

    apart: Callable[[Array, int], Array]  # (array, size) -> [parts, size, ...]
    together: Callable[[Array], Array]  # its inverse


# Part j has rows j size, j size + 1, ...: no row moves.
NEIGHBOURS = Cut(
    lambda a, size: a.reshape(-1, size, *a.shape[1:]),
    lambda a: a.reshape(-1, *a.shape[2:]),
)
# Of n parts, part j has rows j, j + n, ... Of a batch that lies in pieces on several
# devices, each part then has rows of every piece; a part of neighbours would be of one
# piece, and the compiler would have each device do all of the work.
DEALT = Cut(
    lambda a, size: a.reshape(size, -1, *a.shape[1:]).swapaxes(0, 1),
    lambda a: a.swapaxes(0, 1).reshape(-1, *a.shape[2:]),
)


def microbatched(share: ShareFn, *, size: int, cut: Cut = NEIGHBOURS) -> ShareFn:
    """Take a rule's share `size` examples at a time, and add.

    Shares are added in float32 at least, whatever the type of the parameters. A batch
    that is no multiple of `size` is filled up with copies at weight 0. What is kept of
    each example comes out in the order of the batch.

    Raises:
        InputError: a `size` below 1; or, while it is traced, one that is larger than
            the batch, or than the part of it that a device has.
    """
    size = at_least(1)("microbatch_size", size)

    def total_share(params: Params, batch: Batch, total: Array) -> Share:
        num_examples = batch.weights.shape[0]
        what = f"microbatch_size of at most the {num_examples} examples to take it from"
        expect(what, size, size <= num_examples)
        parts = jax.tree.map(lambda a: cut.apart(a, size), pad_batch(batch, size))

        def add(sums, part: Batch):
            means, grads, each = share(params, part, total)
            added = jax.tree.map(lambda s, a: s + widen(a), sums, (means, grads))
            return added, each

        first = jax.tree.map(lambda a: a[0], parts)
        means, grads, _ = zeros_like(jax.eval_shape(share, params, first, total))
        zeros = jax.tree.map(widen, (means, grads))
        (means, grads), each = lax.scan(add, zeros, parts)
        each = jax.tree.map(lambda a: cut.together(a)[:num_examples], each)
        return Share(means, typed_like(grads, params), each)

    return total_share
