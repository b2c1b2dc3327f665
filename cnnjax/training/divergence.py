"""Training that is no longer finite: found after each call, and traced to its update.

A call makes many updates. If the parameters are not finite after one, the epoch is made
again from a copy of its start, one update at a time, which gives the same bits.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import keystr, tree_leaves_with_path
from jaxtyping import Array, Bool, PyTree

from cnnjax.training.feed import Calls, Feed
from cnnjax.training.loop import LoopState
from cnnjax.training.streaming import Stream
from cnnjax.training.updates import Loop, Updates

OnNan = Literal["stop", "continue"]


class Divergence(NamedTuple):
    """The first update in which something was not finite."""

    epoch: int  # from 1
    step: int  # of the training, from 1
    tensor: str  # "the loss", "the gradient of conv_0/kernel", "the parameter ..."
    loss: float  # of that update, before it
    gradient_norm: float  # likewise: of the mean gradient of the batch
    learning_rate: float


class DivergedError(Exception):
    """Training was stopped because something was not finite."""

    def __init__(self, divergence: Divergence, at: LoopState) -> None:
        """Stop in this state, which an update before it has spoiled."""
        super().__init__(f"{divergence.tensor} was not finite")
        self.divergence, self.at = divergence, at


@jax.jit
def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number in a tree is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves] or True))


def is_finite(at: LoopState, first: int) -> bool:
    """Whether the losses since update `first` of the epoch, and the parameters, are."""
    losses = np.asarray(at.steps.means["loss"])[first : at.update]
    return bool(np.isfinite(losses).all()) and bool(all_finite(at.params))


def trace(
    start: LoopState,
    calls: Calls,
    *,
    updates: Updates,
    feed: Feed | Stream,
    order: Array,
    schedule: optax.Schedule,
) -> Divergence:
    """Return the first update in which something was not finite, and what it was.

    `start` is the finite state from which the updates of these calls of the program
    were made; its arrays are deleted.
    """
    loop = Loop(start.state, start.steps)
    feeds = zip(calls, feed.for_calls(order, calls), strict=True)
    single = ((own, index) for bounds, own in feeds for index in range(*bounds))
    for own, index in single:
        before = jax.tree.map(jnp.copy, loop.state)
        loop = updates.run(loop, own, order, np.int32(index), np.int32(index + 1))
        loss = float(np.asarray(loop.steps.means["loss"])[index])
        if not math.isfinite(loss) or not all_finite(loop.state.params):
            break
    else:
        raise AssertionError("training was not finite, and made again it is")
    _, grads = updates.look(own, order, np.int32(index), before)
    step = int(np.asarray(before.step))
    return Divergence(
        epoch=start.epoch + 1,
        step=step + 1,
        tensor=_first_tensor(loss, grads, loop.state.params),
        loss=loss,
        gradient_norm=float(optax.tree.norm(grads)),
        learning_rate=float(np.asarray(schedule(step))),
    )


def _first_tensor(loss: float, grads: PyTree, params: PyTree) -> str:
    """Name what was not finite first: the loss, then a gradient, then a parameter."""
    if not math.isfinite(loss):
        return "the loss"
    for kind, tree in (("gradient of", grads), ("parameter", params)):
        for path, leaf in tree_leaves_with_path(tree):
            if not all_finite(leaf):
                return f"the {kind} {keystr(path, simple=True, separator='/')}"
    return "a parameter"


def _is_float(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
