"""Own arrays as data: what is plainly right is taken as it is, the rest is refused."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import TINY, random_dataset

from cnnjax.base.errors import InputError
from cnnjax.data import Dataset, load_dataset
from cnnjax.data.checks import check_counts, check_dataset, check_examples
from cnnjax.data.preprocessing import Identity, MinMaxPerImage, Standardize
from cnnjax.data.splits import HoldOut
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.predictions import predict
from cnnjax.experiments.recipes import get_recipe
from cnnjax.experiments.runs import fit
from cnnjax.models.stack import Dense, Flatten
from cnnjax.strategies import STRATEGIES, make_strategy
from cnnjax.training.epochs import train
from cnnjax.training.evaluation import make_evaluate, make_predict
from cnnjax.training.updates import LoopConfig, LoopKeys, compile_updates
from cnnjax.types import Examples

RNG = np.random.default_rng(0)
COUNT = 12
IMAGES = RNG.integers(0, 256, (COUNT, 8, 8, 1)).astype(np.uint8)
LABELS = (np.arange(COUNT) % 3).astype(np.int32)
FLOATS = IMAGES.astype(np.float32)

RECIPE = dataclasses.replace(
    TINY, model=dataclasses.replace(TINY.model, layers=(Flatten(), Dense(3)))
)
SMALL = override(RECIPE, batch_size=4)
REGRESSION = get_recipe("tanh_mlp_housing_narrow")


def dataset(inputs: Any = IMAGES, labels: Any = LABELS, **changes: Any) -> Dataset:
    return Dataset(
        **{
            "name": "own",
            "train": Examples(inputs, labels),
            "test": Examples(IMAGES[:6], LABELS[:6]),
            "class_names": ("ant", "bee", "cow"),
            **changes,
        }
    )


def with_value(array: np.ndarray, value: float, at: int = 5) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


def error_of(call, *arguments: Any, **named: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WITH_NAN = with_value(FLOATS, np.nan)


NO_PAIRS = {
    "None": (None, "got NoneType"),
    "three": ((IMAGES, LABELS, LABELS), "got tuple of 3"),
    "none": ((), "got tuple of 0"),
    "one": ([IMAGES], "got list of 1"),
    "a bare array": (IMAGES, "got ndarray"),
    "an array of two": (IMAGES[:2], "got ndarray"),
    "a dict": ({"inputs": IMAGES, "labels": LABELS}, "got dict of inputs, labels"),
    "zipped": (zip(IMAGES, LABELS, strict=True), "got zip"),
    "a word": ("ab", "got str"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("pair", "reason"), NO_PAIRS.values(), ids=NO_PAIRS)
def test_what_is_no_pair_of_inputs_and_labels(pair, reason):
    told = f"examples: expected Examples(inputs, labels), {reason}; give one array"
    where = "dataset 'own', training "
    assert error_of(check_dataset, dataset(train=pair)).startswith(where + told)
    if pair is not None:
        where = "dataset 'own', test "
        assert error_of(check_dataset, dataset(test=pair)).startswith(where + told)
    assert error_of(check_examples, pair).startswith(told)
    assert error_of(check_counts, pair).startswith(told)
    assert check_examples((IMAGES, LABELS)).labels.shape == (COUNT,)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("names", [None, 3, "abc", {"ant", "bee", "cow"}, {}, 0.5])
def test_class_names_that_are_none(names):
    message = error_of(check_dataset, dataset(class_names=names))
    told = "dataset 'own': expected class_names to be a tuple of names, empty for a r"
    assert message.startswith(told)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "names", [("a", "b", "c"), ["a", "b", "c"], np.array(["a", "b", "c"])]
)
def test_class_names_may_be_listed(names):
    assert check_dataset(dataset(class_names=names)).num_classes == 3


@pytest.mark.parametrize("low", [-1, -100])
def test_who_numbers_classes_from_below_0_is_told_to_renumber_them(low):
    labels = np.where(LABELS == 0, low, 1)
    for call in (check_dataset, lambda own: check_examples(own.train)):
        message = error_of(call, dataset(labels=labels, class_names=("a", "b")))
        assert f"got labels {low} to 1; {low} has no meaning here: leave" in message
        assert "or number the classes with np.unique(labels, return_inverse" in message


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        ((0.5, 0.5, 0.5), (0.2,)),
        ((0.5,), (0.2, 0.2)),
        ((), ()),
        ((0.5,) * 8, (0.2,) * 8),  # as many as the image is wide
    ],
)
def test_a_scale_of_other_channels_is_refused_by_prepare(mean, std):
    scaled = dataclasses.replace(SMALL, preprocessing=Standardize(mean, std))
    told = f"standardizes with mean {mean} and std {std}, but its inputs of shape "
    assert f"{told}(8, 8, 1) have 1 channels; give" in error_of(
        prepare, scaled, dataset()
    )


AS_THEY_ARE = dataclasses.replace(SMALL, preprocessing=Identity())
LIKE_DATA = {
    "masked": (np.ma.masked_less(IMAGES, 9), "a masked array with"),
    "wraps around": (IMAGES.astype(np.int64) << 40, "finite numbers that int32 holds"),
    "infinite as float32": (FLOATS.astype(np.float64) * 1e300, "that float32 holds"),
    "NaN": (WITH_NAN, "finite numbers that float32 holds"),
    "long double": (IMAGES.astype(np.longdouble), "expected integers or floats"),
    "ragged": ([[1, 2], [3]] * 6, "list that makes none"),
    "complex": (FLOATS + 1j, "got an array of complex64"),
    "words": (np.full(IMAGES.shape, "a"), "got an array of str32"),
    "None": (None, "expected an array of numbers, got None"),
}


@pytest.fixture(scope="module")
def experiment():
    return prepare(AS_THEY_ARE, dataset(FLOATS, test=Examples(FLOATS, LABELS)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("inputs", "reason"), LIKE_DATA.values(), ids=LIKE_DATA)
def test_predict_refuses_what_a_dataset_may_not_have(experiment, inputs, reason):
    assert reason in error_of(prepare, AS_THEY_ARE, dataset(inputs))
    assert reason in error_of(predict, experiment, experiment.params, inputs)
    if isinstance(inputs, np.ndarray):
        first = inputs[:1][0] if inputs is not WITH_NAN else inputs[5]
        assert reason in error_of(predict, experiment, experiment.params, first)


@pytest.mark.usefixtures("unchecked")
def test_predict_takes_what_a_dataset_may_have(experiment):
    bits = IMAGES > 128
    expected = predict(experiment, experiment.params, bits.astype(np.float32))
    for like in (bits, bits.tolist(), bits.astype(">i8"), bits.astype(np.float64)):
        found = predict(experiment, experiment.params, like)
        np.testing.assert_array_equal(found, expected)
        assert predict(experiment, experiment.params, like[3]) == expected[3]
    prepare(AS_THEY_ARE, dataset(bits, test=Examples(bits, LABELS)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "change",
    [
        lambda params: None,
        lambda params: [1],
        lambda params: "params",
        lambda params: {},
        lambda params: jax.tree.map(lambda leaf: "x", params),
        lambda params: jax.tree.map(lambda leaf: None, params),
        lambda params: jax.tree.map(lambda leaf: leaf.tolist(), params),
        lambda params: jax.tree.map(lambda leaf: leaf[None], params),
        lambda params: jax.tree.map(lambda leaf: leaf * 1j, params),
        lambda params: jax.tree.map(lambda leaf: np.ma.masked_less(leaf, 9), params),
        lambda params: {**params, "dense_9": {"kernel": jnp.ones(3)}},
    ],
)
def test_predict_refuses_parameters_of_no_network(experiment, change):
    message = error_of(predict, experiment, change(experiment.params), FLOATS[0])
    assert message.startswith("expected the parameters of this network, as prepare or")


CLASSES = "dataset 'own', training labels: expected one whole number from 0 to 2 per"
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]

WRONG_LABELS = {
    "from 1": (LABELS + 1, "got labels 1 to 3; count classes from 0, not from 1"),
    "-1": (with_value(LABELS, -1), "got labels -1 to 2; -1 has no meaning here"),
    "-100": (with_value(LABELS, -100), "got labels -100 to 2; -100 has no meaning"),
    "one above": (with_value(LABELS, 3), "got labels 0 to 3; give each class a name"),
    "255, as uint8": (
        with_value(LABELS, 255).astype(np.uint8),
        "got labels 0 to 255",
    ),
    "a column": (LABELS[:, None], "got int32 of shape (1,) each; use labels[:, 0]"),
    "one-hot": (
        ONE_HOT,
        "float32 of shape (3,) each; for one-hot labels, use labels.arg",
    ),
    "one-hot integers": (ONE_HOT.astype(np.int64), "labels.argmax(axis=1)"),
    "float": (LABELS.astype(np.float64), "got float32 each; convert them with"),
    "bool": (LABELS > 0, "got bool each; convert them with labels.astype(np.int32)"),
}


@pytest.mark.parametrize(("labels", "reason"), WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_labels_that_are_no_classes(labels, reason):
    message = error_of(check_dataset, dataset(labels=labels))
    assert message.startswith(CLASSES)
    assert reason in message


WRONG_ARRAYS = {
    "fewer labels": (IMAGES, LABELS[:-1], "per input, got 12 inputs and 11 labels"),
    "fewer inputs": (IMAGES[:-2], LABELS, "per input, got 10 inputs and 12 labels"),
    "words": (IMAGES, np.array(["a", "b"] * 6), "labels: expected integers or floats"),
    "bytes": (IMAGES, [b"a", b"b"] * 6, "number the classes with np.unique"),
    "objects": (np.array([*FLOATS, None], object), LABELS, "array of object; np.stack"),
    "ragged": ([[1, 2], [3]] * 6, LABELS, "got list that makes none"),
    "complex": (FLOATS + 1j, LABELS, "got an array of complex64"),
    "times": (IMAGES.astype("m8[s]"), LABELS, "inputs: expected integers or floats"),
    "long double": (
        IMAGES.astype(np.longdouble),
        LABELS,
        "expected integers or floats",
    ),
    "keys": (jax.random.split(jax.random.key(0), 12), LABELS, "expected one array of"),
    "no array": (None, LABELS, "inputs: expected an array of numbers, got None"),
    "no labels": (IMAGES, None, "labels: expected an array of numbers, got None"),
    "a number": (np.uint8(3), LABELS, "one for each example, got a single 3"),
    "empty": (IMAGES[:0], LABELS[:0], "one example, got an empty array of shape (0, 8"),
    "no pixels": (IMAGES[:, :0], LABELS, "got an empty array of shape (12, 0, 8, 1)"),
    "gaps": (
        np.ma.masked_less(IMAGES, 9),
        LABELS,
        f"a masked array with {(IMAGES < 9).sum()} gaps",
    ),
    "NaN": (with_value(FLOATS, np.nan), LABELS, "1 of 12 examples, first in number 5"),
    "infinity": (with_value(FLOATS, np.inf), LABELS, "that float32 holds, got others"),
    "-infinity": (with_value(FLOATS, -np.inf), LABELS, "(-inf to -inf); leave them"),
    "float16 NaN": (
        with_value(FLOATS, np.nan).astype(np.float16),
        LABELS,
        "(nan to nan)",
    ),
    "bfloat16 NaN": (
        jnp.asarray(with_value(FLOATS, np.nan), "bfloat16"),
        LABELS,
        "(nan to nan)",
    ),
    "infinite as float32": (FLOATS.astype(np.float64) * 1e300, LABELS, "float32 holds"),
    "wraps around": (IMAGES.astype(np.int64) << 40, LABELS, "that int32 holds, got"),
    "label wraps": (IMAGES, LABELS.astype(np.int64) + 2**32, "labels: expected finite"),
}


@pytest.mark.parametrize(
    ("inputs", "labels", "reason"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS
)
def test_arrays_that_cannot_be_used(inputs, labels, reason):
    message = error_of(check_dataset, dataset(inputs, labels))
    assert message.startswith("dataset 'own', training ")
    assert reason in message
    # The same where no class count is known.
    assert reason in error_of(check_examples, Examples(inputs, labels))


WRONG_TESTS = {
    "size": (IMAGES[:6, :7], LABELS[:6], "inputs (uint8 of shape (8, 8, 1) each), got"),
    "channels": (IMAGES[:6].repeat(3, -1), LABELS[:6], "of shape (8, 8, 3) each"),
    "no channel axis": (IMAGES[:6, ..., 0], LABELS[:6], "got uint8 of shape (8, 8) ea"),
    "floats": (FLOATS[:6], LABELS[:6], "got float32 of shape (8, 8, 1) each; prepare"),
    "empty": (IMAGES[:0], LABELS[:0], "a dataset without a test set has test=None"),
    "counts": (IMAGES[:6], LABELS[:5], "test examples: expected one label per input"),
    "labels": (IMAGES[:6], LABELS[:6] + 1, "test labels: expected one whole number"),
    "NaN": (with_value(FLOATS, np.nan), LABELS, "test inputs: expected finite"),
}


@pytest.mark.parametrize(
    ("inputs", "labels", "reason"), WRONG_TESTS.values(), ids=WRONG_TESTS
)
def test_a_test_set_of_another_kind(inputs, labels, reason):
    wrong = dataset(test=Examples(inputs, labels))
    assert reason in error_of(check_dataset, wrong)


def every_other(array: np.ndarray) -> np.ndarray:
    """Return the same values, neither contiguous nor writable."""
    spread = np.repeat(array, 2, axis=0)[::2]
    spread.flags.writeable = False
    return spread


RIGHT = {
    "int64 labels": (IMAGES, LABELS.astype(np.int64)),
    "uint8 labels": (IMAGES, LABELS.astype(np.uint8)),
    "big-endian labels": (IMAGES, LABELS.astype(">i4")),
    "lists": (IMAGES.tolist(), LABELS.tolist()),
    "a list of arrays": (list(IMAGES), list(LABELS)),
    "neither contiguous nor writable": (every_other(IMAGES), every_other(LABELS)),
    "backwards twice": (IMAGES[::-1][::-1], LABELS),
    "Fortran order": (np.asfortranarray(IMAGES), LABELS),
    "on a device": (jnp.asarray(IMAGES), jnp.asarray(LABELS)),
    "masked without gaps": (np.ma.array(IMAGES), np.ma.array(LABELS)),
    "int64 images": (IMAGES.astype(np.int64), LABELS),
    "big-endian images": (IMAGES.astype(">u2"), LABELS),
}


@pytest.mark.parametrize(("inputs", "labels"), RIGHT.values(), ids=RIGHT)
def test_what_is_plainly_right_is_taken(inputs, labels):
    checked = check_dataset(dataset(inputs, labels)).train
    assert type(checked.inputs) is type(checked.labels) is np.ndarray
    assert checked.labels.dtype == np.int32
    assert checked.inputs.dtype.isnative
    np.testing.assert_array_equal(checked.inputs, IMAGES)
    np.testing.assert_array_equal(checked.labels, LABELS)


def test_arrays_that_are_right_are_not_copied():
    checked = check_dataset(dataset()).train
    assert np.shares_memory(checked.inputs, IMAGES)
    assert np.shares_memory(checked.labels, LABELS)


def test_targets():
    whole = np.arange(COUNT)[:, None]
    inputs = RNG.random((COUNT, 5)).astype(np.float32)
    own = dataset(inputs, whole, test=None, class_names=())
    assert check_dataset(own).train.labels.dtype == np.float32
    prepare(REGRESSION, own)
    # An own loss may take integers in rows, or bits, as they are.
    for labels in (whole.astype(np.int32), LABELS > 0, ONE_HOT):
        assert check_examples(Examples(inputs, labels)).labels.dtype == labels.dtype
    for wrong, reason in (
        (with_value(whole.astype(np.float32), np.nan), "training labels: expected fin"),
        (whole[:, 0] * 0.5, "targets of shape (1,), but dataset 'own' has targets of "),
        (np.hstack([whole, whole]), "has targets of shape (2,)"),
    ):
        own = dataset(inputs, wrong, test=None, class_names=())
        assert reason in error_of(prepare, REGRESSION, own)
    own = dataset(inputs, LABELS, test=None)
    assert "but dataset 'own' has classes" in error_of(prepare, REGRESSION, own)
    own = dataset(class_names=())
    assert "has no class_names; choose another" in error_of(prepare, RECIPE, own)


SCALES = {
    "0 to 1": (FLOATS / 255, "training pixels from 0 to 1 (float32)"),
    "bits": ((IMAGES > 128).astype(np.uint8), "training pixels from 0 to 1 (uint8)"),
    "truth values": (IMAGES > 128, "training pixels from 0 to 1 (bool)"),
    "-1 to 1": (FLOATS / 127.5 - 1, "training pixels from -1 to 1"),
    "standardized": ((FLOATS - 128) / 70, "training pixels from -1.8"),
    "16 bits": (IMAGES.astype(np.uint16) * 257, "pixels from 0 to 65535 (uint16)"),
    "float64": (FLOATS.astype(np.float64) / 256, "give pixels 0 to 255, or the recipe"),
}


@pytest.mark.parametrize(("inputs", "reason"), SCALES.values(), ids=SCALES)
def test_pixels_of_another_scale_are_not_divided_by_255(inputs, reason):
    test = Examples(inputs[:6], LABELS[:6])
    own = dataset(inputs, test=test)
    held_out = dataclasses.replace(SMALL, split=HoldOut(0.25))
    coloured = dataclasses.replace(SMALL, preprocessing=Standardize((0.1,), (0.3,)))
    assert reason in error_of(prepare, SMALL, own)
    assert "preprocessing=Identity()" in error_of(prepare, held_out, own)
    assert "divides pixels by 255" in error_of(prepare, coloured, own)
    for preprocessing in (Identity(), MinMaxPerImage()):
        prepare(dataclasses.replace(SMALL, preprocessing=preprocessing), own)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
def test_pixels_from_0_to_255_of_any_type_are(dtype):
    own = dataset(IMAGES.astype(dtype), test=Examples(IMAGES.astype(dtype), LABELS))
    prepare(SMALL, own)
    dark = Examples(np.zeros_like(IMAGES[:2]), LABELS[:2])
    prepare(SMALL, dataset(test=dark))


def test_a_scale_in_the_test_set_alone_is_seen():
    own = dataset(FLOATS, test=Examples(FLOATS / 255, LABELS))
    assert "got test pixels from 0 to 1" in error_of(fit, SMALL, own)


def loss_fn(params, example, label, key):
    del key
    logits = example.astype(jnp.float32).reshape(-1) @ params
    return optax.softmax_cross_entropy_with_integer_labels(logits, label), {}


PARAMS = jnp.zeros((64, 3))
LOOP = {
    "optimizer": optax.sgd(0.1),
    "config": LoopConfig(batch_size=4, epochs=1),
    "keys": LoopKeys(jax.random.key(0), None),
}


@pytest.mark.parametrize("name", [n for n in STRATEGIES if "factored" not in n])
def test_what_takes_examples_alone_checks_them_under_every_strategy(name):
    strategy = make_strategy(name, loss_fn)
    more = {**LOOP, "strategy": strategy, "schedule": optax.constant_schedule(0.1)}
    for wrong, reason in (
        (Examples(IMAGES, LABELS[:-1]), "training examples: expected one label per"),
        (Examples(IMAGES, with_value(LABELS, -1)), "training labels: expected one who"),
        (Examples(with_value(FLOATS, np.nan), LABELS), "training inputs: expected fin"),
        (Examples(IMAGES[:0], LABELS[:0]), "training inputs: expected at least one"),
    ):
        assert reason in error_of(train, PARAMS, wrong, **more)
        place = {"put_state": strategy.put_state, "put_batch": strategy.put_batch}
        alone = reason.removeprefix("training ")
        assert error_of(make_evaluate, loss_fn, wrong, PARAMS, **place).startswith(
            alone
        )


def test_counts_are_compared_before_anything_is_compiled():
    wrong = Examples(IMAGES[:-1], LABELS)
    strategy = make_strategy("jit", loss_fn)
    message = error_of(compile_updates, PARAMS, wrong, strategy=strategy, **LOOP)
    assert (
        message == "examples: expected one label per input, got 11 inputs and 12 labels"
    )
    message = error_of(make_predict, lambda params, example: params, wrong)
    assert message.endswith("got 11 inputs and 12 labels")


def test_lists_and_wide_labels_are_trained_on_and_evaluated():
    strategy = make_strategy("jit", loss_fn)
    schedule = optax.constant_schedule(0.1)
    ends = [
        train(PARAMS, own, strategy=strategy, schedule=schedule, **LOOP)[0]
        for own in (
            Examples(IMAGES, LABELS),
            Examples(IMAGES.tolist(), LABELS.astype(">i8")),
        )
    ]
    np.testing.assert_array_equal(*ends)
    evaluate = make_evaluate(loss_fn, Examples(list(IMAGES), list(LABELS)), PARAMS)
    assert evaluate(PARAMS)["loss"] == pytest.approx(np.log(3))


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        (Examples(IMAGES[:5], LABELS[:5]), "expected 12 inputs of uint8"),
        (Examples(IMAGES[:, :4], LABELS), "(8, 8, 1) each, as compiled for, got 12 of"),
        (
            Examples(FLOATS, LABELS),
            "got 12 of float32 of shape (8, 8, 1) each; compile",
        ),
        (Examples(IMAGES, ONE_HOT), "expected 12 labels of int32 each"),
        (Examples(IMAGES, LABELS - 1), "labels: expected one whole number from 0 per"),
    ],
)
def test_other_examples_to_evaluate_are_checked(others, reason):
    evaluate = make_evaluate(loss_fn, Examples(IMAGES, LABELS), PARAMS)
    assert reason in error_of(evaluate, PARAMS, others)
    assert evaluate(PARAMS, Examples(IMAGES, LABELS.tolist()))["examples"] == 12


def test_a_dataset_equals_itself_and_can_be_a_key():
    one, other = load_dataset("digits"), load_dataset("digits")
    copy = dataclasses.replace(one)
    assert one == one
    assert one != other
    assert one != copy
    assert one != "digits"
    assert one in [other, one]
    assert other not in [one, copy]
    assert len({one, other, one}) == 2
    names = functools.lru_cache(lambda dataset: object())
    assert names(one) is names(one)
    assert names(one) is not names(other)


def test_random_data_of_the_tests_pass():
    checked = check_dataset(random_dataset(TINY))
    assert checked.class_names == ("0", "1", "2")
