"""The reference with which all strategies of an experiment are compared."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.data.order import example_keys, take_batch
from cnnjax.experiments.experiment import Experiment
from cnnjax.gradients import reductions
from cnnjax.gradients.shares import serial_share, value_and_grad_of
from cnnjax.laws.law import Exact, make_exact
from cnnjax.training.step import init_state, make_train_step
from cnnjax.types import Batch, LossFn, Metrics, Params, ValueAndGradFn


class Reference(NamedTuple):
    """The results of the serial reference for two batches, and for updates on them."""

    batches: tuple[Batch, Batch]
    values: tuple[tuple[Metrics, Params], tuple[Metrics, Params]]  # for each batch
    exact: tuple[Exact, Exact]  # for each batch
    params: Params  # after `num_steps` updates
    num_steps: int


def first_batches(experiment: Experiment, *, batch_size: int) -> tuple[Batch, Batch]:
    """Return a full and a short batch of the first examples of the training set.

    They have keys if there is dropout. The weights are unequal, and their mean is not
    1: with equal weights a mean of local means would be right, too. In the short batch
    the last third is padding.
    """
    order = np.arange(len(experiment.train.labels), dtype=np.int32)
    batch = take_batch(experiment.train, jnp.asarray(order), 0, batch_size=batch_size)
    weights = np.linspace(0.5, 1.25, batch_size, dtype=np.float32)
    full = batch._replace(weights=batch.weights * weights)
    if experiment.keys.dropout is not None:
        keys = example_keys(experiment.keys.dropout, 0, batch_size=batch_size)
        full = full._replace(keys=keys)
    kept = np.arange(batch_size) < batch_size - max(1, batch_size // 3)
    return full, full._replace(weights=full.weights * kept)


def reference_value_and_grad(loss_fn: LossFn) -> ValueAndGradFn:
    """Build the serial `value_and_grad`, which also reports the mean norm."""
    return value_and_grad_of(serial_share(loss_fn, reductions.norms))


def comparable(reference: Metrics, reported: Metrics) -> Metrics:
    """Return the reference without the mean norm if a strategy does not report it."""
    means = {
        name: value
        for name, value in reference.means.items()
        if name != "grad_norm" or name in reported.means
    }
    return reference._replace(means=means)


def make_reference(
    experiment: Experiment,
    *,
    batch_size: int,
    num_steps: int,
    platform: str | None = None,
) -> Reference:
    """Compute the reference of an experiment.

    The `num_steps` updates alternate between the two batches. The `platform`, as JAX
    names it, is where the reference is computed; None: where the strategies run. With
    "cpu", strategies on a GPU are compared with another machine's arithmetic.

    Raises:
        InputError: JAX has no such platform here.
    """
    with jax.default_device(_first_device(platform)):
        return _reference(experiment, batch_size=batch_size, num_steps=num_steps)


def _first_device(platform: str | None) -> Any:
    """Return the first device of a platform; None: JAX's own choice."""
    if platform is None:
        return None
    try:
        return jax.local_devices(backend=platform)[0]
    except RuntimeError as error:
        platforms = sorted({device.platform for device in jax.devices()})
        raise InputError(
            f"expected a platform on which JAX can compute the reference, got "
            f"{platform!r}; it has started {', '.join(platforms)}; unset JAX_PLATFORMS "
            "if that leaves it out"
        ) from error


def _reference(experiment: Experiment, *, batch_size: int, num_steps: int) -> Reference:
    batches = first_batches(experiment, batch_size=batch_size)
    value_and_grad = jax.jit(reference_value_and_grad(experiment.loss_fn))
    values = tuple(value_and_grad(experiment.params, batch) for batch in batches)
    step = jax.jit(make_train_step(value_and_grad, experiment.optimizer))
    state = init_state(experiment.params, experiment.optimizer)
    for index in range(num_steps):
        state, _ = step(state, batches[index % 2])
    exact_fn = make_exact(
        experiment.loss_fn,
        dtype=experiment.recipe.model.dtype,
        reduction=reductions.norms,
    )
    exact = tuple(exact_fn(experiment.params, batch) for batch in batches)
    return Reference(
        batches, (values[0], values[1]), (exact[0], exact[1]), state.params, num_steps
    )
