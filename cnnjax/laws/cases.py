"""A case for the laws: a strategy, and the exact results to compare with.

Each program of a case is compiled once, however many laws use it.
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
    """The right results for a loss, computed without any strategy."""

    exact: ExactFn  # the exact means of a batch, with the bounds of the law
    # of_one(params, example, label, key) -> ({metric: value}, grads), for ONE example.
    of_one: Callable[..., tuple[Values, Params]]
    mean_loss: Callable[[Params, Batch], Float[Array, ""]]


def truth_of(loss_fn: LossFn, dtype: str) -> Truth:
    """Build the right results for a loss; those of the last few losses are cached."""
    try:
        return _kept(loss_fn, dtype)
    except TypeError:  # the loss is not hashable
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
    """A strategy with parameters and a batch, and what else the laws need.

    `make_case` builds a case from a caller's arguments.
    """

    strategy: Strategy
    loss_fn: LossFn
    params: Params
    batch: Batch  # as given by the caller: any weights, with or without padding
    dtype: str  # of the arithmetic: a key of `law.ROUNDOFF`
    optimizer: optax.GradientTransformation  # for the laws about updates
    num_devices: int = 1  # over which a batch is divided
    microbatch_size: int | None = None
    alone: Strategy | None = None  # the same on one device, to compare its work with
    # The batches of the updates, in order; empty: made from `examples`.
    update_batches: tuple[Batch, ...] = ()
    _programs: dict[Any, jax.stages.Compiled] = field(default_factory=dict, init=False)

    @property
    def compiled(self) -> bool:
        """Whether the strategy is compiled into a program."""
        return self.strategy.run != "eager"

    @functools.cached_property
    def examples(self) -> Batch:
        """The examples of the batch, without padding, with unequal weights."""
        return batches.unequally_weighted(batches.only_real(self.batch))

    @functools.cached_property
    def truth(self) -> Truth:
        """The right results for the loss."""
        return truth_of(self.loss_fn, self.dtype)

    @functools.cached_property
    def expected(self) -> Exact:
        """The exact results for `examples`, and their bounds."""
        return self.exact(self.examples)

    @functools.cached_property
    def returned(self) -> tuple[Metrics, Params]:
        """The results of the strategy for `examples`."""
        return self.value_and_grad(self.examples)

    @functools.cached_property
    def updated(self) -> Updated:
        """The result of some updates."""
        short, nearly_empty = batches.short, batches.nearly_empty
        own = self.examples
        return update(
            self.strategy,
            self.params,
            self.update_batches or (own, short(own), nearly_empty(own)),
            optimizer=self.optimizer,
        )

    def exact(self, batch: Batch) -> Exact:
        """Return the exact results for a batch, and the bounds of rounding errors."""
        return self.truth.exact(self.params, batch)

    def place(self, batch: Batch) -> tuple[Params, Batch]:
        """Place parameters and a batch as the strategy does."""
        # A copy of the case's own: a wrong strategy may let them be donated.
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
        """Return the metrics and the gradients of the strategy for a batch.

        Raises:
            InputError: the strategy returns something other than (Metrics, gradients).
        """
        run = self.program(batch) if self.compiled else self.strategy.value_and_grad
        returned = run(*self.place(batch))
        pair = isinstance(returned, tuple) and len(returned) == 2
        right = pair and isinstance(returned[0], Metrics)
        what = "strategy.value_and_grad to return (Metrics, gradients)"
        expect(what, jax.tree.structure(returned), right)
        return returned
