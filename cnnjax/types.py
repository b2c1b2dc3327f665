"""The types shared by all rooms: examples, batches, metrics, train state.

Axis names used in all signatures: `batch` is the examples of one update, `examples`
those held in memory, `steps` the updates of an epoch; `*example` is the shape of one
input, `classes` the number of logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Key, Num, PyTree, Shaped

Params = PyTree[Float[Array, "..."], "params"]
HostParams = PyTree[Float[np.ndarray, "..."], "params"]  # as they are read from a file
# A number of updates, epochs or batches: traced or not.
Count = Int[Array, ""] | int | np.integer
Label = Int[Array, ""] | Float[Array, " targets"]
NO_PREDICTION = -1  # in place of a class, where the logits of an example define none


class Examples(NamedTuple):
    """Examples held in memory, as they were read: not scaled yet."""

    inputs: Num[Any, "examples *example"]  # uint8 images (height, width, channels)
    labels: Shaped[Any, "examples *target"]  # int32 classes, or float32 targets


class Batch(NamedTuple):
    """The examples of one update. Weight 0 marks padding, which has no effect.

    Each example keeps its own key, made from (seed, step, position in the global batch)
    before the batch is divided, so a dropout mask never depends on the strategy.
    """

    inputs: Num[Array, "batch *example"]
    labels: Shaped[Array, "batch *target"]
    weights: Float[Array, " batch"]
    keys: Key[Array, " batch"] | None  # None: the model draws no random numbers


class Metrics(NamedTuple):
    """Weighted means over examples, and the sum of the weights.

    `means["loss"]` is always present: nats for cross-entropy, squared units for MSE.
    """

    means: dict[str, Float[Array, "..."]]
    weight: Float[Array, "..."]  # sum of the weights, for means over several batches


class TrainState(NamedTuple):
    """The state that an update reads and writes."""

    params: Params
    opt_state: PyTree
    step: Int[Array, ""]  # updates made so far


Values = dict[str, Float[Array, ""]]  # the loss and the metrics of one example
# loss_fn(params, example, label, key) -> (loss, {name: value}), of ONE example.
LossFn = Callable[..., tuple[Float[Array, ""], dict[str, Float[Array, ""]]]]
# tapped_loss_fn(params, taps, example, label, key) -> (loss, (metrics, inputs)):
# taps are added to each layer's pre-activation; inputs are the matrices that a layer
# multiplies by its kernel.
TappedLossFn = Callable[..., tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]]
# value_and_grad(params, batch) -> (Metrics, grads): means over the GLOBAL batch.
ValueAndGradFn = Callable[[Params, Batch], tuple[Metrics, Params]]


class Strategy(NamedTuple):
    """One way to compute the mean gradient of a batch: an entry of the table.

    The law: for all params and batches, `value_and_grad` equals the serial reference.
    """

    value_and_grad: ValueAndGradFn
    put_state: Callable[[PyTree], PyTree]  # copies: the caller's arrays survive
    put_batch: Callable[[Batch], Batch]  # traceable: batches are gathered in the loop
    # "eager": each operation is called from Python; "step": each update is compiled;
    # "loop": many updates per call, compiled.
    run: Literal["eager", "step", "loop"]
