"""Build a case from a caller's arguments, with checks, copies and defaults."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from cnnjax.base.arguments import instance_of, known_name, optional
from cnnjax.base.errors import expect
from cnnjax.base.settings import check_compiles
from cnnjax.devices.mesh import AXIS, make_mesh
from cnnjax.gradients.objective import Objective, as_objective
from cnnjax.gradients.shares import canonical
from cnnjax.laws.cases import Case
from cnnjax.laws.law import ROUNDOFF
from cnnjax.models.contract import check_params
from cnnjax.strategies import (
    NO_OPTIONS,
    STRATEGIES,
    Options,
    Row,
    checked,
    make_strategy,
    mesh_of,
)
from cnnjax.types import Batch, LossFn, Params, Strategy

# builder(objective, options) -> Strategy: a row of the table is one.
Builder = Callable[[Objective, Options], Strategy]
LEARNING_RATE = 2.0**-10


def make_case(
    strategy: str | Strategy | Builder,
    objective: Objective | LossFn,
    params: PyTree,
    batch: Batch,
    *,
    options: Options = NO_OPTIONS,
    dtype: str | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Case:
    """Build a case for the laws; parameters and batch are copied to the device.

    Raises:
        InputError: an argument that is not a strategy, an objective, options or an
            optimizer; parameters that cannot be differentiated; a batch of fewer than 2
            real examples; a dtype without a bound; or jax_disable_jit is set.
    """
    check_compiles("a check of the laws")
    objective, options = as_objective(objective), checked(options)
    is_optimizer = instance_of(optax.GradientTransformation)
    optional(is_optimizer)("optimizer (see make_optimizer)", optimizer)
    params, batch = _copied(params), _checked_batch(batch)
    built = _build(strategy, objective, options)
    row = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    return Case(
        strategy=built,
        loss_fn=objective.loss_fn,
        params=params,
        batch=batch,
        dtype=known_name("dtype", dtype or _narrowest(params), ROUNDOFF),
        optimizer=optimizer or optax.sgd(LEARNING_RATE),
        num_devices=_num_devices(row, options, built.put_batch(batch)),
        microbatch_size=options.microbatch_size,
        alone=_alone(row, objective, options),
    )


def _build(
    strategy: str | Strategy | Builder, objective: Objective, options: Options
) -> Strategy:
    if isinstance(strategy, Strategy):
        what = "no options with a Strategy, which is built already"
        expect(what, options, options == NO_OPTIONS)
        return strategy
    if isinstance(strategy, str):
        return make_strategy(strategy, objective, options)
    what = "strategy to be a name, a Strategy or a function that builds one"
    expect(what, strategy, callable(strategy))
    built = strategy(objective, options)
    what = "strategy(objective, options) to return a Strategy"
    expect(what, built, isinstance(built, Strategy))
    return built


def _num_devices(strategy: object, options: Options, placed: Batch) -> int:
    """Return the number of devices over which a batch is divided, or placed."""
    if isinstance(strategy, Row):
        return mesh_of(options).shape[AXIS] if strategy.divides else 1
    sharding = getattr(placed.weights, "sharding", None)
    return 1 if sharding is None else sharding.num_devices


def _alone(strategy: object, objective: Objective, options: Options) -> Strategy | None:
    """Build a row of the table for one device; None: the strategy is not a row."""
    if not isinstance(strategy, Row):
        return None
    return strategy(objective, options._replace(mesh=make_mesh(1)))


def _copied(params: PyTree) -> Params:
    check_params(params)
    count = len(jax.tree.leaves(params))
    expect("parameters: a pytree of at least one array", params, count > 0)
    # With an explicit dtype: a Python number is weakly typed, and an update is not.
    return jax.tree.map(lambda p: jnp.array(p, jnp.result_type(p)), params)


def _checked_batch(batch: Batch) -> Batch:
    instance_of(Batch)("batch", batch)
    arrays: PyTree = jax.tree.map(jnp.asarray, canonical(batch))
    real = int(np.count_nonzero(arrays.weights))
    expect("a batch of at least 2 examples at a weight above 0", real, real >= 2)
    return arrays


def _narrowest(params: Params) -> str:
    """Return the narrowest dtype of the parameters, the default of the arithmetic."""
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
    return min(dtypes, key=lambda dtype: jnp.finfo(dtype).bits).name
