"""A network as StableHLO, which JAX, XLA and IREE run without this library.

The programs are for CPU, CUDA and TPU, and for any number of examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Num

from cnnjax.base.settings import new_key
from cnnjax.experiments.experiment import Experiment
from cnnjax.loaded import LoadedRun
from cnnjax.results.checkpoints.snapshot import like_tree, named
from cnnjax.strategies import make_strategy
from cnnjax.training.step import init_state, make_train_step
from cnnjax.types import Batch, TrainState

PLATFORMS = ("cpu", "cuda", "tpu")


def forward(run: LoadedRun, *, dtype: str) -> bytes:
    """Return `forward(images) -> logits`, serialized; the parameters are in it.

    `images` are raw, [examples, *example] of this type; a regression's are its inputs.
    """
    (count,) = export.symbolic_shape("examples")
    shape = (count, *run.recipe.model.input_shape)
    spec = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
    program = export.export(forward_of(run), platforms=PLATFORMS)(spec)
    return bytes(program.serialize())


def forward_of(run: LoadedRun) -> Any:
    """Return the program that is exported: `forward(images) -> outputs`, jitted."""
    apply_fn, params = run.apply_fn, jax.tree.map(jnp.asarray, run.params)

    @jax.jit
    def forward(images: Num[Array, "examples *example"]) -> Array:
        return jax.vmap(lambda image: apply_fn(params, image))(images)

    return forward


def train_step(experiment: Experiment) -> export.Exported:
    """Return `step(state, inputs, labels, seed) -> (state, loss)`, for any batch size.

    `state` is a dictionary of arrays by name (`leaves_of`): parameters, optimizer
    state, number of updates. The gradient is the mean over the examples, by the
    strategy `jit`; `seed` (uint32) is of the keys for dropout and augmentation.
    """
    first = leaves_of(init_state(experiment.params, experiment.optimizer))
    (count,) = export.symbolic_shape("examples")
    inputs, labels = experiment.train
    specs = (
        {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in first.items()},
        jax.ShapeDtypeStruct((count, *inputs.shape[1:]), inputs.dtype),
        jax.ShapeDtypeStruct((count, *labels.shape[1:]), labels.dtype),
        jax.ShapeDtypeStruct((), jnp.uint32),
    )
    return export.export(train_step_of(experiment), platforms=PLATFORMS)(*specs)


def leaves_of(state: TrainState) -> dict[str, np.ndarray]:
    """Return a state as the exported step takes it: arrays by name."""
    return {k: np.asarray(v) for k, v in named({"state": state}).items()}


def train_step_of(experiment: Experiment) -> Any:
    """Return the step that is exported, jitted."""
    strategy = make_strategy("jit", experiment.objective)
    step = make_train_step(strategy.value_and_grad, experiment.optimizer)
    state = init_state(experiment.params, experiment.optimizer)
    keyed = experiment.recipe.needs_keys

    @jax.jit
    def flat(
        leaves: Mapping[str, Any], inputs: Array, labels: Array, seed: Array
    ) -> tuple[dict[str, Any], Array]:
        count = inputs.shape[0]
        keys = jax.random.split(new_key(seed), count) if keyed else None
        batch = Batch(inputs, labels, weights=jnp.ones(count), keys=keys)
        after, metrics = step(like_tree(state, leaves, "state"), batch)
        return named({"state": after}), metrics.means["loss"]

    return flat
