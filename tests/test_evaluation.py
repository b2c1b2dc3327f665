"""Evaluation is of the examples that are asked for, each once, and of these parameters.

Example i counts 2^i, so a sum is one whole number for each set of examples.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, random_dataset

from cnnjax import devices
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.judging import is_due
from cnnjax.experiments.overrides import override
from cnnjax.experiments.predictions import predict_test
from cnnjax.experiments.runs import run
from cnnjax.models.losses import softmax_cross_entropy
from cnnjax.models.stack import Activation, Dense, Dropout, Flatten
from cnnjax.results.workdir import open_workdir
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.training.evaluation import (
    BATCH_SIZE,
    make_evaluate,
    make_predict,
    map_examples,
)
from cnnjax.types import Examples

COUNT = 21  # a number that float32 holds has 24 bits
PARAMS = {"factor": jnp.ones(())}


def loss_fn(params, example, label, key):
    assert key is None  # nothing is dropped
    return params["factor"] * 2.0**label, {"input": 2.0 ** example[0]}


def examples_of(numbers) -> Examples:
    """Return examples of which each has a number, as its input and as its label."""
    numbers = np.asarray(numbers, np.int32)
    return Examples(numbers[:, None].astype(np.uint8), numbers)


def seen(result: dict[str, float]) -> tuple[int, int]:
    """Return the sets of labels and of inputs that the means are of."""
    count = result["examples"]
    assert count == COUNT
    return round(result["loss"] * count), round(result["input"] * count)


EVERY = (2**COUNT - 1,) * 2


@pytest.mark.parametrize("batch_size", [1, 2, 5, 20, 21, 22, 500])
def test_every_example_is_counted_once(batch_size):
    examples = examples_of(range(COUNT))
    evaluate = make_evaluate(loss_fn, examples, PARAMS, batch_size=batch_size)
    assert seen(evaluate(PARAMS)) == EVERY
    assert seen(evaluate({"factor": 2 * jnp.ones(())})) == (2 * EVERY[0], EVERY[1])
    # Others, of which one comes three times and none is the first or the last.
    others = examples_of([5, 5, *range(1, COUNT - 1)])
    of_others = sum(2**i for i in range(1, COUNT - 1)) + 2 * 2**5
    assert seen(evaluate(PARAMS, others)) == (of_others,) * 2
    assert seen(evaluate(PARAMS)) == EVERY  # and then its own again
    turned = Examples(examples.inputs, np.zeros(COUNT, np.int32))
    assert seen(evaluate(PARAMS, turned)) == (COUNT, EVERY[1])


@pytest.mark.parametrize(
    ("name", "num_devices", "batch_size"),
    [("sharded", 2, 3), ("shard_map", 3, 50), ("pmap", 4, 1), ("shard_map", 4, 4)],
)
def test_every_example_is_counted_once_on_several_devices(
    name, num_devices, batch_size
):
    mesh = devices.make_mesh(num_devices)
    strategy = STRATEGIES[name](loss_fn, Options(mesh))
    evaluate = make_evaluate(
        loss_fn,
        examples_of(range(COUNT)),
        params := strategy.put_state(PARAMS),
        batch_size=batch_size,
        put_state=strategy.put_state,
        put_batch=strategy.put_batch,
    )
    assert seen(evaluate(params)) == EVERY
    others = examples_of([*range(2, COUNT), 3, 3])
    of_others = sum(2**i for i in range(2, COUNT)) + 2 * 2**3
    assert seen(evaluate(params, others)) == (of_others,) * 2


@pytest.mark.parametrize("count", [1, BATCH_SIZE, 2 * BATCH_SIZE + 3])
def test_predictions_are_in_the_order_of_the_examples(count):
    numbers = np.random.default_rng(0).permutation(count)
    predict = make_predict(
        lambda params, example: (
            -jnp.abs(jnp.arange(count + 1) - example[0] - params["factor"])
        ),
        examples_of(numbers),
    )
    np.testing.assert_array_equal(predict(PARAMS), numbers + 1)
    np.testing.assert_array_equal(predict({"factor": jnp.zeros(())}), numbers)


def test_of_equal_logits_the_first_is_predicted():
    predict = make_predict(lambda *_: jnp.array([0.0, 2.0, 2.0]), examples_of([0, 1]))
    assert predict(PARAMS).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("evaluate_every", "due"), [(0, [7]), (1, [*range(1, 8)]), (3, [3, 6, 7])]
)
def test_every_so_many_epochs_are_evaluated_and_the_last(evaluate_every, due):
    assert [e for e in range(1, 8) if is_due(e, 7, evaluate_every)] == due


def by_hand(experiment, params) -> dict[str, float]:
    """Evaluate the test set one example at a time."""
    one = jax.jit(lambda image, label: experiment.loss_fn(params, image, label, None))
    results = [one(*example) for example in zip(*experiment.test, strict=True)]
    losses, metrics = zip(*results, strict=True)
    return {
        "loss": float(np.mean(losses)),
        "accuracy": float(np.mean([m["accuracy"] for m in metrics])),
        "examples": len(results),
    }


@pytest.fixture(scope="module")
def trained():
    """Train for three epochs; the test set has other examples than the training set."""
    layers = (Flatten(), Dense(8), Activation("tanh"), Dropout(0.5), Dense(3))
    recipe = override(TINY, batch_size=16, epochs=3)
    recipe = replace(recipe, model=replace(TINY.model, layers=layers))
    experiment = prepare(recipe, random_dataset(TINY, train=50, test=23))
    return experiment, run(experiment)


@pytest.mark.parametrize("epochs", [1, 3])
def test_each_epoch_tests_its_own_parameters_on_the_test_set(epochs, trained):
    experiment, ended = trained
    shorter = experiment._replace(loop=replace(experiment.loop, epochs=epochs))
    params = run(shorter, evaluate_every=0).params if epochs < 3 else ended.params
    expected = by_hand(experiment, params)
    assert ended.records[epochs - 1].test == pytest.approx(expected, rel=1e-5)
    if epochs == 3:
        assert ended.test == pytest.approx(expected, rel=1e-5)
    # The mutant: any other epoch's parameters have another loss.
    losses = [record.test["loss"] for record in ended.records]
    assert len(set(np.round(losses, 4))) == 3


def test_what_is_written_is_what_is_predicted_of_each_test_example(trained, tmp_path):
    experiment, ended = trained
    labels, predictions = experiment.test.labels, predict_test(experiment, ended.params)
    one = jax.jit(experiment.apply_fn)
    for image, predicted in zip(experiment.test.inputs, predictions, strict=True):
        assert predicted == np.argmax(one(ended.params, image))
    assert not np.array_equal(labels, predictions)
    folder = open_workdir(str(tmp_path))
    folder.append_predictions(7, labels, predictions)
    folder.append_predictions(8, labels, predictions[::-1])
    header, *lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert header == "seed,example,label,prediction"
    rows = np.array([line.split(",") for line in lines], int)
    np.testing.assert_array_equal(rows[:, 0], [7] * 23 + [8] * 23)
    np.testing.assert_array_equal(rows[:, 1], [*range(23)] * 2)
    np.testing.assert_array_equal(rows[:, 2], [*labels, *labels])
    np.testing.assert_array_equal(rows[:, 3], [*predictions, *predictions[::-1]])


def test_what_was_given_may_be_changed_afterwards():
    """On a CPU, JAX shares memory with NumPy where this is aligned."""
    room = np.zeros(64 * 16 + 16, np.float32)
    start = -room.ctypes.data // 4 % 16  # aligned to 64 bytes
    inputs = room[start : start + 64 * 16].reshape(64, 16)
    inputs[:] = np.random.default_rng(0).standard_normal(inputs.shape)
    examples = Examples(inputs, (np.arange(64) % 4).astype(np.int32))
    params = {
        "w": jnp.asarray(np.ones((16, 4), np.float32) * np.arange(4, dtype=np.float32))
    }

    def apply_fn(params, x, key=None):
        return x @ params["w"]

    def loss_fn(params, x, label, key):
        return softmax_cross_entropy(apply_fn(params, x), label)

    evaluate = make_evaluate(loss_fn, examples, params)
    predict = make_predict(apply_fn, examples)
    before = evaluate(params), predict(params)
    inputs[:] = 0
    after = evaluate(params), predict(params)
    assert after[0] == before[0]
    np.testing.assert_array_equal(after[1], before[1])


@pytest.mark.parametrize(
    "count", [0, 1, BATCH_SIZE, BATCH_SIZE + 1, 2 * BATCH_SIZE + 3]
)
def test_a_function_of_one_example_is_applied_to_each_and_compiled_once(count):
    """`lax.map` with a `batch_size` has it twice: for the batches, and for the rest."""
    traced = []

    def product(example):
        traced.append(example.shape)
        return example @ jnp.array([1.0, 10.0])

    inputs = jnp.arange(2.0 * count).reshape(count, 2)
    outputs = jax.jit(lambda inputs: map_examples(product, inputs))(inputs)
    np.testing.assert_array_equal(outputs, inputs[:, 0] + 10 * inputs[:, 1])
    assert traced == [(2,)]
