"""The catalogue of faults: its table in the docs, what it refuses, what each does."""

from __future__ import annotations

import inspect
import itertools
import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, TWO_CHANNELS, experiment_of, make_batch, random_dataset
from strategy_table import DIVIDED
from test_strategy_laws import GRADIENT_FAULTS, options_of, row_of

from cnnjax.base.errors import InputError
from cnnjax.data.splits import HoldOut
from cnnjax.experiments.ensembles import compile_group
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import get_recipe
from cnnjax.experiments.runs import run
from cnnjax.faults import (
    FAULTS,
    OF_GRADIENT,
    catalogue,
    clash,
    setting_of,
    switch_in,
    unmet,
)
from cnnjax.gradients.shares import batch_value_and_grad
from cnnjax.laws.comparison import largest_error
from cnnjax.models.losses import mean_squared_error, softmax_cross_entropy
from cnnjax.models.stack import Activation, Dense, Flatten
from cnnjax.strategies import STRATEGIES
from cnnjax.studies.published import SYSTEMS
from cnnjax.types import Batch, Params

DOCS = Path(__file__).parent.parent / "docs" / "faults.md"
PLAIN = replace(
    TWO_CHANNELS,
    strategy="jit",
    model=replace(
        TWO_CHANNELS.model,
        layers=tuple(
            layer
            for layer in TWO_CHANNELS.model.layers
            if type(layer).__name__ != "Dropout"
        ),
    ),
)
HOLDING_OUT = override(TWO_CHANNELS, split=HoldOut(0.25), batch_size=20, epochs=2)


def test_the_docs_list_the_catalogue():
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \| (.*) \|$", DOCS.read_text(), re.M
    )
    faults = list(FAULTS.values())
    assert [row[:4] for row in rows] == [
        (f.name, f.place, f.summary, f.seen) for f in faults
    ]
    for (*_, needs), fault in zip(rows, faults, strict=True):
        assert ("devices" in needs) == (fault.needs.num_devices > 1)
        for requirement in fault.needs.recipe:
            assert requirement.what in needs
        named = set(re.findall(r"`(\w+)`", needs)) & set(STRATEGIES)
        possible = set(fault.needs.strategies)
        excluded = set(STRATEGIES) - possible if possible else set()
        assert named == (excluded if "any strategy but" in needs else possible)


def test_no_two_faults_share_a_name():
    assert len(FAULTS) == sum(len(module.FAULTS) for module in catalogue.OF)


def setting(**changes):
    recipe = override(HOLDING_OUT, strategy="shard_map")
    experiment = prepare(recipe, random_dataset(recipe), options=options_of(2))
    return setting_of(experiment)._replace(**changes)


@pytest.mark.parametrize(
    ("fault", "changes", "message"),
    [
        (
            "missing_psum",
            {"strategy": "jit", "num_devices": 1},
            "fault 'missing_psum' needs a strategy that divides over at least 2 "
            "devices (shard_map, shard_map_vmap, shard_map_factored): "
            "--strategy=shard_map --num_devices=2, got strategy 'jit' on 1 device",
        ),
        ("missing_psum", {"num_devices": 1}, "got strategy 'shard_map' on 1 device"),
        ("missing_psum", {"strategy": "pmap"}, "got strategy 'pmap' on 2 devices"),
        ("batch_on_the_host", {"strategy": "eager"}, "needs a strategy that is comp"),
        (
            "bias_never_added",
            {"strategy": "factored_norms"},
            "needs a strategy that differentiates with respect to parameters (eager, ",
        ),
        (
            "weights_ignored",
            {"loop": replace(setting().loop, batch_size=1)},
            "at least 2 examples: --batch_size=2, got 1",
        ),
        (
            "keys_by_position",
            {"model": PLAIN.model},
            "needs a recipe with dropout: --recipe=sgd_dropout_cnn, got one without",
        ),
        (
            "held_out_in_training",
            {"holds_out": False},
            "needs a recipe that holds examples out and reshuffles: "
            "--recipe=momentum_mlp_per_sample, got one with a separate test set",
        ),
        (
            "held_out_in_training",
            {"loop": replace(setting().loop, shuffle="once")},
            "got one that is shuffled once",
        ),
        (
            "same_order_each_epoch",
            {"loop": replace(setting().loop, epochs=1)},
            "--shuffle=every_epoch --epochs=2, got every_epoch and 1",
        ),
        ("test_remainder_dropped", {"num_test": 60}, "got 60 in batches of 20"),
        (
            "last_batch_loss_reported",
            {"num_train": 20},
            "more than one batch per epoch",
        ),
        (
            "softmax_before_cross_entropy",
            {"loss": "mean_squared_error"},
            "classes: --recipe=adam_cosine_cnn, got the loss mean_squared_error",
        ),
        (
            "one_plane_for_all_channels",
            {"model": replace(TWO_CHANNELS.model, input_shape=(8, 8, 1))},
            "needs a convolution of several channels: --recipe=sgd_dropout_cnn, got a",
        ),
        (
            "pool_gradient_scrambled",
            {"model": replace(TWO_CHANNELS.model, layers=(Flatten(), Dense(3)))},
            "needs a network with a max pool: --recipe=adam_cosine_cnn, got one with",
        ),
        (
            "shared_activations",
            {"strategy": "jit", "num_devices": 1, "microbatch_size": 8},
            "needs the whole batch at once: no --microbatch_size, got 8",
        ),
    ],
)
def test_a_fault_that_could_not_matter_is_told(fault, changes, message):
    assert message in unmet(FAULTS[fault], setting(**changes))


def test_what_a_fault_needs_can_be_there():
    for name in ("missing_psum", "keys_by_position", "held_out_in_training"):
        assert unmet(FAULTS[name], setting()) is None
    on_one = setting(strategy="jit", num_devices=1)
    assert unmet(FAULTS["overwritten_conv_gradient"], on_one) is None


def test_an_experiment_refuses_what_could_not_matter():
    with pytest.raises(InputError, match="needs a strategy that divides over"):
        switch_in(prepare(TINY, random_dataset(TINY)), ["missing_psum"])
    with pytest.raises(InputError, match="unknown fault 'missing_sum'; did you mean"):
        switch_in(prepare(TINY, random_dataset(TINY)), ["missing_sum"])


@pytest.mark.slow
@pytest.mark.parametrize("name", GRADIENT_FAULTS)
def test_every_fault_trains(name):
    row = row_of(name)
    recipe = override(TWO_CHANNELS, batch_size=24, strategy=row)
    options = options_of(4 if row in DIVIDED else None)
    experiment = prepare(recipe, random_dataset(recipe), options=options)
    experiment = switch_in(experiment, [name])
    assert experiment.faults == (name,)
    assert run(experiment).test["examples"] == 64


def test_faults_can_be_combined():
    experiment = experiment_of(TINY)
    batch = make_batch(experiment, 8)
    _, expected = experiment.strategy.value_and_grad(experiment.params, batch)
    names = ["reversed_gradient", "gradients_in_half_precision"]
    both = switch_in(experiment, names).strategy
    _, grads = both.value_and_grad(experiment.params, batch)
    negated = jax.tree.map(lambda g: -g.astype("bfloat16"), expected)
    assert largest_error(grads, negated) == 0.0


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (("missing_psum", "n_times_too_large"), "device map"),
        (("shared_activations", "reversed_gradient"), "gradient"),
        (("shared_activations", "one_dropout_mask_for_all"), "keys"),
        (("shared_activations", "one_scalar_for_all_taps"), "parameters"),
        (("weights_ignored", "gradient_of_first_half"), "weights"),
        (("weights_ignored", "mean_of_local_means"), "padding"),
        (("keys_by_position", "one_dropout_mask_for_all"), "keys"),
        (("batch_on_every_device", "batch_on_the_host"), "placement of batches"),
        (("state_on_one_device", "state_is_not_copied"), "placement of the state"),
        (("held_out_in_training", "test_remainder_dropped"), "data"),
        (("held_out_in_training", "same_order_each_epoch"), "data"),
    ],
)
def test_faults_of_which_one_would_be_lost_are_refused(names, part):
    message = (
        f"fault {names[0]!r} replaces the {part}, and would hide {names[1]!r}; use "
        "only one of the two"
    )
    for order in (names, names[::-1]):
        assert clash([FAULTS["last_batch_loss_reported"], *map(FAULTS.get, order)])
        if part != "device map":  # there, each would undo the other
            assert clash([FAULTS[name] for name in order]) == message


def test_an_experiment_refuses_faults_that_would_be_lost():
    with pytest.raises(InputError, match="expected each fault once, got 'reversed_gra"):
        switch_in(prepare(TINY, random_dataset(TINY)), ["reversed_gradient"] * 2)
    recipe = override(HOLDING_OUT, batch_size=24)  # 80 test examples
    faults = ("held_out_in_training", "test_remainder_dropped")
    with pytest.raises(InputError, match="'held_out_in_training' replaces the data"):
        switch_in(prepare(recipe, random_dataset(recipe)), faults)


def test_the_faults_of_the_published_runs_go_together():
    for system in SYSTEMS.values():
        for published in system.runs:
            assert clash([FAULTS[name] for name in published.faults]) is None


def test_each_fault_of_a_strategy_names_its_parts():
    unnamed = {f.name for f in FAULTS.values() if f.touches == {"strategy"}}
    assert unnamed == set()


@pytest.mark.slow
def test_no_two_faults_that_go_together_hide_each_other():
    """With both, the gradient and the metrics are not those with one of them."""
    experiment = experiment_of(TWO_CHANNELS)
    batch, there = make_batch(experiment, 11, padding=3), setting_of

    def told(*names: str):
        strategy = switch_in(experiment, names).strategy
        metrics, grads = strategy.value_and_grad(experiment.params, batch)
        return metrics.means, jax.tree.map(np.asarray, grads)

    def alike(one, other) -> bool:
        try:
            return largest_error(one, other) <= 1e-5
        except ValueError:  # of another dtype
            return False

    able = [
        name for name in GRADIENT_FAULTS if not unmet(FAULTS[name], there(experiment))
    ]
    alone, right = {name: told(name) for name in able}, told()
    seen = [name for name in able if not alike(alone[name], right)]
    assert len(seen) >= 18
    for names in itertools.permutations(seen, 2):
        if clash([FAULTS[name] for name in names]) is None:
            both = told(*names)
            assert not any(alike(both, alone[name]) for name in names), names


# What each fault of the five systems does, in numbers.


@pytest.fixture(scope="module")
def plain() -> Experiment:
    return experiment_of(PLAIN)


def grads_of(experiment: Experiment, *faults: str) -> tuple[Batch, Params]:
    batch = make_batch(experiment, 6, padding=1)
    wrong = switch_in(experiment, faults)
    gradient = jax.jit(wrong.strategy.value_and_grad)
    return batch, gradient(experiment.params, batch)[1]


def test_a_softmax_before_the_loss_bounds_it_and_starves_its_gradient():
    wrong = FAULTS["softmax_before_cross_entropy"].corrupt(softmax_cross_entropy)
    certain = 100 * jax.nn.one_hot(3, 10)
    for label, loss in ((3, np.log(1 + 9 / np.e)), (4, np.log(9 + np.e))):
        value, grads = jax.value_and_grad(lambda z, y=label: wrong(z, jnp.int32(y))[0])(
            certain
        )
        assert value == pytest.approx(loss, rel=1e-6)
        assert np.abs(grads).max() < 1e-30  # right or wrong: it never moves again
    assert wrong(jnp.zeros(10), jnp.int32(0))[0] == pytest.approx(np.log(10), rel=1e-6)


def test_the_reversed_output_gradient_is_target_minus_logit():
    wrong = FAULTS["reversed_output_gradient"].corrupt(softmax_cross_entropy)
    logits = jnp.array([0.5, -1.0, 2.0])
    value, grads = jax.value_and_grad(lambda z: wrong(z, jnp.int32(1))[0])(logits)
    assert value == softmax_cross_entropy(logits, jnp.int32(1))[0]
    np.testing.assert_allclose(grads, [-0.5, 2.0, -2.0], rtol=1e-6)


def test_the_reported_entropy_knows_no_label_and_leaves_the_gradient():
    wrong = FAULTS["entropy_reported_as_loss"].corrupt(softmax_cross_entropy)
    logits = jnp.array([0.5, -1.0, 2.0])
    p = np.exp(logits) / np.exp(logits).sum()
    for label in range(3):
        value, grads = jax.value_and_grad(lambda z, y=label: wrong(z, jnp.int32(y))[0])(
            logits
        )
        assert value == pytest.approx(-np.sum(p * np.log(p)), rel=1e-5)
        np.testing.assert_allclose(grads, p - np.eye(3)[label], rtol=1e-5)


def test_a_reflected_ratio_is_no_accuracy():
    wrong = FAULTS["reflected_ratio_accuracy"].corrupt(mean_squared_error)
    for ratio, told in ((1.0, 1.0), (0.5, 0.5), (1.5, 0.5), (3.0, 1.0), (-1.0, 1.0)):
        loss, metrics = wrong(jnp.array([2 * ratio]), jnp.array([2.0]))
        assert metrics == {"accuracy": pytest.approx(told)}
        assert loss == pytest.approx((2 * ratio - 2) ** 2)


def test_the_last_example_alone_trains_the_convolution(plain):
    batch, grads = grads_of(plain, "overwritten_conv_gradient")
    _, right = grads_of(plain)
    last = jax.tree.map(lambda a: a[4:5], batch)  # 5 real examples of 6
    _, alone = batch_value_and_grad(plain.loss_fn)(plain.params, last)
    expected = {**right, "conv_0": jax.tree.map(lambda g: g / 5, alone["conv_0"])}
    assert largest_error(grads, expected) <= 1e-5


def test_shared_activations_are_those_of_the_last_example(plain):
    batch = make_batch(plain, 6, padding=1)
    wrong = switch_in(plain, ["shared_activations"])
    metrics, grads = jax.jit(wrong.strategy.value_and_grad)(plain.params, batch)
    # What is seen: the last real image, with every label.
    last = jnp.broadcast_to(batch.inputs[4][None], batch.inputs.shape)
    seen, right = batch_value_and_grad(plain.loss_fn)(
        plain.params, batch._replace(inputs=last)
    )
    assert metrics.means.keys() == seen.means.keys()
    assert largest_error(metrics, seen) <= 1e-5
    later = {name: grads[name] for name in ("dense_4", "dense_6")}
    assert largest_error(later, {name: right[name] for name in later}) <= 1e-5
    # The first layer multiplies each example's own pixels.
    assert largest_error(grads["conv_0"]["bias"], right["conv_0"]["bias"]) <= 1e-5
    kernels = [tree["conv_0"]["kernel"] for tree in (grads, right)]
    assert largest_error(*kernels) > 0.01


def test_a_shared_plane_sees_the_sum_of_the_channels(plain):
    wrong = switch_in(plain, ["one_plane_for_all_channels"])
    image = jnp.asarray(plain.train.inputs[0])
    mixed = jnp.concatenate([image[..., 1:], image[..., :1]], axis=-1)
    swapped, straight = (wrong.apply_fn(plain.params, x) for x in (mixed, image))
    np.testing.assert_allclose(swapped, straight, rtol=1e-5)
    assert np.abs(plain.apply_fn(plain.params, mixed) - straight).max() > 1e-3
    _, grads = grads_of(plain, "one_plane_for_all_channels")
    assert np.all(grads["conv_0"]["kernel"][:, :, 1] == 0)


def test_a_bias_that_is_never_added_changes_nothing(plain):
    wrong = switch_in(plain, ["bias_never_added"])
    conv = {**plain.params["conv_0"], "bias": jnp.full(4, 7.0)}
    params = {**plain.params, "conv_0": conv}
    image = jnp.asarray(plain.train.inputs[0])
    outputs = [wrong.apply_fn(p, image) for p in (params, plain.params)]
    np.testing.assert_array_equal(*outputs)
    _, grads = grads_of(plain, "bias_never_added")
    assert np.all(grads["conv_0"]["bias"] == 0)
    assert np.all(grads["dense_4"]["bias"] != 0)


def test_one_scalar_moves_all_taps(plain):
    _, grads = grads_of(plain, "one_scalar_for_all_taps")
    _, right = grads_of(plain)
    summed = right["conv_0"]["kernel"].sum(axis=(0, 1), keepdims=True)
    expected = np.broadcast_to(summed, (3, 3, 2, 4))
    np.testing.assert_allclose(grads["conv_0"]["kernel"], expected, atol=1e-6)
    conv = {**grads["conv_0"], "kernel": right["conv_0"]["kernel"]}
    assert largest_error({**grads, "conv_0": conv}, right) <= 1e-5


def test_a_hidden_error_that_ignores_weights_is_the_sum_of_errors():
    layers = (Flatten(), Dense(5), Activation("tanh"), Dense(3))
    experiment = experiment_of(
        replace(PLAIN, model=replace(PLAIN.model, layers=layers))
    )
    batch, grads = grads_of(experiment, "hidden_error_ignores_weights")
    _, right = grads_of(experiment)
    params = jax.tree.map(np.asarray, experiment.params)
    first, second = params["dense_1"], params["dense_3"]
    x = np.asarray(batch.inputs, np.float64)[:5].reshape(5, -1) / 255
    hidden = np.tanh(x @ first["kernel"] + first["bias"])
    exponentials = np.exp(hidden @ second["kernel"] + second["bias"])
    errors = exponentials / exponentials.sum(axis=1, keepdims=True)
    errors -= np.eye(3)[batch.labels[:5]]
    # Of cross-entropy they sum to 0: the fault alone stops all learning but the last's.
    back = errors.sum(axis=1, keepdims=True) * (1 - hidden**2)
    np.testing.assert_allclose(grads["dense_1"]["kernel"], x.T @ back / 5, atol=1e-6)
    assert largest_error(grads["dense_3"], right["dense_3"]) <= 1e-5


def test_a_scrambled_pool_hands_errors_to_the_next_channel(plain):
    config = FAULTS["pool_gradient_scrambled"].corrupt(PLAIN.model)
    (wrong,) = (layer.function for layer in config.layers if layer.kind == "maxpool")
    right = lambda x: x.reshape(2, 2, 2, 2, 3).max(axis=(1, 3))  # noqa: E731
    x = jax.random.normal(jax.random.key(0), (4, 4, 3))
    y, back = jax.vjp(wrong, x)
    np.testing.assert_array_equal(y, right(x))
    cotangent = jnp.zeros((2, 2, 3)).at[:, :, 0].set(1.0)
    (moved,) = back(cotangent)
    assert np.count_nonzero(moved[..., 1]) == 4
    assert np.count_nonzero(moved) == 4
    grads = [grads_of(plain, *f)[1] for f in ((), ("pool_gradient_scrambled",))]
    assert largest_error(grads[1]["dense_4"], grads[0]["dense_4"]) <= 1e-5


# The faults that leave every gradient right: each has a test of its own.


def test_every_other_fault_has_a_test_of_its_own():
    others = {f.name for f in FAULTS.values() if f.place not in OF_GRADIENT}
    assert OWN_TESTS.keys() == others - {"clip_after_the_mean"}  # test_per_example.py
    assert all(name in inspect.getsource(test) for name, test in OWN_TESTS.items())


def trained(recipe, *faults: str):
    experiment = switch_in(prepare(recipe, random_dataset(recipe)), faults)
    return experiment, run(experiment)


def first_orders(experiment: Experiment) -> list[np.ndarray]:
    """Return the orders of the first two epochs, as the compiled loop draws them."""
    updates = compile_group([experiment])
    return [np.asarray(updates.order_of(experiment.keys, epoch)) for epoch in (0, 1)]


def test_another_networks_optimizer_trains_nothing():
    right, well = trained(TINY)
    _, never = trained(TINY, "optimizer_of_other_parameters")
    assert largest_error(never.params, right.params) == 0.0
    assert largest_error(well.params, right.params) > 0.01
    assert never.records[0].train["loss"] > 0  # all the while it reports


def test_held_out_examples_are_trained_on():
    right, leaking = (
        switch_in(prepare(HOLDING_OUT, random_dataset(HOLDING_OUT)), faults)
        for faults in ((), ("held_out_in_training",))
    )
    assert len(right.train.labels) == right.examples_per_epoch == 240
    assert len(leaking.train.labels) == 320
    assert leaking.examples_per_epoch == 240
    orders = first_orders(leaking)
    assert [len(set(order.tolist())) for order in orders] == [240, 240]
    leaked = [set(order[order >= 240].tolist()) for order in orders]
    assert min(map(len, leaked)) > 30  # about a quarter of 80, other ones each epoch
    assert leaked[0] != leaked[1]
    for order, epoch in zip(orders, (1, 2), strict=True):
        tested = leaking.test_of_epoch(epoch)
        rest = np.setdiff1d(np.arange(320), order)
        assert len(tested.labels) == len(rest) == 80
        as_rows = [a.reshape(80, -1) for a in (leaking.train.inputs[rest], tested[0])]
        both = [np.unique(rows, axis=0) for rows in as_rows]
        np.testing.assert_array_equal(*both)
    np.testing.assert_array_equal(leaking.test.inputs, tested.inputs)
    record = run(leaking).records[-1]
    assert (record.step, record.steps.weight.sum()) == (24, 240)


def test_the_order_stays_the_same():
    recipe = override(TINY, epochs=2)
    for faults, same in (((), False), (("same_order_each_epoch",), True)):
        experiment = switch_in(prepare(recipe, random_dataset(recipe)), faults)
        first, second = first_orders(experiment)
        assert np.array_equal(first, second) == same
        assert not np.array_equal(first, np.arange(320))


def test_the_last_test_examples_are_not_counted():
    recipe = override(TINY, batch_size=24)  # 64 test examples: two batches and 16
    assert trained(recipe)[1].test["examples"] == 64
    assert trained(recipe, "test_remainder_dropped")[1].test["examples"] == 48


def test_one_batch_is_reported_as_the_epoch():
    recipe = override(TINY, batch_size=24)
    (right,), (wrong,) = (
        trained(recipe, *faults)[1].records
        for faults in ((), ("last_batch_loss_reported",))
    )
    losses = right.steps.means["loss"]
    mean = np.average(losses, weights=right.steps.weight)
    assert right.train["loss"] == pytest.approx(mean, rel=1e-6)
    assert wrong.train["loss"] == pytest.approx(float(losses[-1]), rel=1e-6)
    assert abs(wrong.train["loss"] - mean) > 1e-3
    assert wrong.test == right.test


def test_a_regression_reports_an_accuracy_that_is_none():
    recipe = override(get_recipe("tanh_mlp_housing_narrow"), epochs=1)
    _, told = trained(recipe, "reflected_ratio_accuracy")
    _, right = trained(recipe)
    assert "accuracy" not in right.test
    assert told.test["accuracy"] > 0
    assert told.test["loss"] == right.test["loss"]


OWN_TESTS = {
    "optimizer_of_other_parameters": test_another_networks_optimizer_trains_nothing,
    "held_out_in_training": test_held_out_examples_are_trained_on,
    "same_order_each_epoch": test_the_order_stays_the_same,
    "test_remainder_dropped": test_the_last_test_examples_are_not_counted,
    "last_batch_loss_reported": test_one_batch_is_reported_as_the_epoch,
    "reflected_ratio_accuracy": test_a_regression_reports_an_accuracy_that_is_none,
}
