"""Predictions of a trained network, for given examples or for the test set."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Num

from cnnjax import devices
from cnnjax.base.arguments import instance_of
from cnnjax.base.errors import InputError, expect
from cnnjax.base.leaves import first_difference
from cnnjax.base.settings import check_settings
from cnnjax.data.arrays import as_array, as_held
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.matching import check_pixels
from cnnjax.training.evaluation import make_predict, map_examples
from cnnjax.types import NO_PREDICTION, Params


def predict(
    experiment: Experiment, params: Params, example: Num[ArrayLike, "*example"]
) -> np.ndarray:
    """Return the class of one raw example (int), or the predicted targets (float).

    The class is NO_PREDICTION, -1, if the logits define none. For a stack of examples,
    [examples, *example], return one prediction per example. Raw examples are as in the
    dataset: pixels from 0 to 255, which the recipe scales itself.

    Raises:
        InputError: inputs of another shape or range, or that are not numbers, not
            finite or too large for 32 bits; parameters of another network; or a JAX
            setting under which this cannot run.
    """
    check_settings()
    instance_of(Experiment)("experiment (see prepare)", experiment)
    different = first_difference(params, experiment.params, types=False)
    if different is not None:
        leaf, ours, theirs = different
        raise InputError(
            "expected the parameters of this network, as prepare or run return them: "
            f"{leaf} of {ours}, got {theirs}"
        )
    inputs, shape = as_array(example, "inputs"), experiment.recipe.model.input_shape
    what = f"one example of shape {shape}, or several stacked along a new first axis"
    expect(what, inputs.shape, inputs.shape[-len(shape) :] == shape)
    expect(what, inputs.shape, inputs.ndim - len(shape) in (0, 1))
    single = inputs.ndim == len(shape)
    inputs = as_held(inputs[None] if single else inputs, "inputs")
    check_pixels(experiment.recipe, inputs, part="given", may_be_dark=True)
    apply_fn, predict = experiment.apply_fn, experiment.objective.predict
    placed = jax.device_put(inputs[0] if single else inputs)
    if single:
        outputs = jax.jit(apply_fn)(params, placed)
        class_of = predict
    else:
        outputs = _of_each(apply_fn, params, placed)
        class_of = predict and jax.vmap(predict)
    return np.asarray(class_of(outputs) if class_of else outputs)


@functools.partial(jax.jit, static_argnums=0)
def _of_each(
    apply_fn: Callable[..., Array],
    params: Params,
    inputs: Num[Array, "examples *example"],
) -> Float[Array, "examples classes"]:
    """Apply a network to a stack of raw examples, in small batches."""
    return map_examples(functools.partial(apply_fn, params), inputs)


def predict_test(
    experiment: Experiment, params: Params
) -> Int[np.ndarray, " examples"] | None:
    """Return the predicted class of each test example; None for a regression.

    It is NO_PREDICTION, -1, if the logits of an example define no class.
    """
    if experiment.objective.predict is None:
        return None
    return make_predict(experiment.apply_fn, experiment.test)(params)


def count_unpredicted(
    experiment: Experiment, params: Params, test: Mapping[str, float]
) -> int | None:
    """Count the test examples without a predicted class; None for a regression.

    If the test loss is finite there are none: an example whose softmax is undefined
    makes it NaN or infinite.
    """
    if experiment.objective.predict is None:
        return None
    if math.isfinite(test["loss"]):
        return 0
    whole = jax.device_put(devices.to_host(params))
    predictions = predict_test(experiment, whole)
    return int(np.sum(predictions == NO_PREDICTION))
