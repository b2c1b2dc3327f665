"""A case for the laws: one strategy, and what it is held to.

Each program of it is compiled once, whatever laws look at it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from cnnjax.base.errors import expect
from cnnjax.gradients import reductions
from cnnjax.gradients.shares import weighted
from cnnjax.laws import batches
from cnnjax.laws.law import Exact, ExactFn, make_exact
from cnnjax.laws.updates import Updated, update
from cnnjax.models.contract import checked
from cnnjax.types import Batch, LossFn, Metrics, Params, Strategy, Values


class Truth(NamedTuple):
    """What is right for a loss, computed without any strategy."""

    exact: ExactFn  # of a batch, with the bound of the law
    # Of ONE example: of_one(params, example, label, key) -> ({metric: value}, grads).
    of_one: Callable[..., tuple[Values, Params]]
    mean_loss: Callable[[Params, Batch], Float[Array, ""]]


def truth_of(loss_fn: LossFn, dtype: str) -> Truth:
    """Build what is right for a loss; that of the last few losses is kept, compiled."""
    try:
        return _kept(loss_fn, dtype)
    except TypeError:  # it cannot be hashed
        return _truth_of(loss_fn, dtype)


def _truth_of(loss_fn: LossFn, dtype: str) -> Truth:
    values_fn = checked(loss_fn)

    def of_one(*example: Any) -> tuple[Values, Params]:
        grads, values = jax.grad(values_fn, has_aux=True)(*example)
        return {**values, **reductions.norms(grads).metrics}, grads

    def mean_loss(params: Params, batch: Batch) -> Float[Array, ""]:
        losses_of = jax.vmap(values_fn, in_axes=(None, 0, 0, 0))
        losses, _ = losses_of(params, batch.inputs, batch.labels, batch.keys)
        return jnp.sum(weighted(losses, batch.weights)) / jnp.sum(batch.weights)

    exact_fn = make_exact(loss_fn, dtype=dtype, reduction=reductions.norms)
    return Truth(exact_fn, jax.jit(of_one), jax.jit(mean_loss))


_kept = functools.lru_cache(maxsize=8)(_truth_of)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A strategy with parameters and a batch; what laws need to know of it besides.

    `make_case` makes one of what a caller has.
    """

    strategy: Strategy
    loss_fn: LossFn
    params: Params
    batch: Batch  # as it was given: equal weights or not, padding or none
    dtype: str  # of the arithmetic: a name of `law.ROUNDOFF`
    optimizer: optax.GradientTransformation  # of the updates that are made
    num_devices: int = 1  # that a batch is divided over
    microbatch_size: int | None = None
    alone: Strategy | None = None  # the same on one device: the measure of its work
    # Of the updates that are made, one after another; none: of `examples`.
    update_batches: tuple[Batch, ...] = ()
    _programs: dict[Any, jax.stages.Compiled] = field(default_factory=dict, init=False)

    @property
    def compiled(self) -> bool:
        """Whether there is a compiled program to look at."""
        return self.strategy.run != "eager"

    @functools.cached_property
    def examples(self) -> Batch:
        """The examples of the batch, all of them real, at unequal weights."""
        return batches.unequally_weighted(batches.only_real(self.batch))

    @functools.cached_property
    def truth(self) -> Truth:
        """What is right for the loss."""
        return truth_of(self.loss_fn, self.dtype)

    @functools.cached_property
    def expected(self) -> Exact:
        """What is exact for `examples`, and its bounds."""
        return self.exact(self.examples)

    @functools.cached_property
    def returned(self) -> tuple[Metrics, Params]:
        """What the strategy returns for `examples`."""
        return self.value_and_grad(self.examples)

    @functools.cached_property
    def updated(self) -> Updated:
        """What some updates leave behind."""
        short, nearly_empty = batches.short, batches.nearly_empty
        own = self.examples
        return update(
            self.strategy,
            self.params,
            self.update_batches or (own, short(own), nearly_empty(own)),
            optimizer=self.optimizer,
        )

    def exact(self, batch: Batch) -> Exact:
        """Return what is exact for a batch, and how far from it right ones may be."""
        return self.truth.exact(self.params, batch)

    def place(self, batch: Batch) -> tuple[Params, Batch]:
        """Put parameters and a batch where the strategy wants them."""
        # Not the case's own: a wrong strategy may not copy what is donated later.
        params = jax.tree.map(jnp.copy, self.params)
        return self.strategy.put_state(params), self.strategy.put_batch(batch)

    def program(self, batch: Batch) -> jax.stages.Compiled:
        """Return the compiled program for batches of these shapes and types."""
        params, placed = self.place(batch)
        kind = tuple((np.shape(a), a.dtype) for a in jax.tree.leaves(placed))
        if kind not in self._programs:
            lowered = jax.jit(self.strategy.value_and_grad).lower(params, placed)
            self._programs[kind] = lowered.compile()
        return self._programs[kind]

    def value_and_grad(self, batch: Batch) -> tuple[Metrics, Params]:
        """Return what the strategy returns for a batch.

        Raises:
            InputError: it is not (Metrics, gradients).
        """
        run = self.program(batch) if self.compiled else self.strategy.value_and_grad
        returned = run(*self.place(batch))
        pair = isinstance(returned, tuple) and len(returned) == 2
        right = pair and isinstance(returned[0], Metrics)
        what = "strategy.value_and_grad to return (Metrics, gradients)"
        expect(what, jax.tree.structure(returned), right)
        return returned
