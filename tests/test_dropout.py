"""Masks of dropout: of every example its own, of every entry its own, at the rate."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_table import DIVIDED

from cnnjax import devices, models
from cnnjax.data.order import example_keys
from cnnjax.experiments.experiment import keys_of
from cnnjax.models.initializers import PYTORCH
from cnnjax.models.stack import Dropout, Flatten, ModelConfig
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.training.algorithms import Sgd
from cnnjax.training.epochs import train
from cnnjax.training.optimizers import OptimizerConfig, make_optimizer, make_schedule
from cnnjax.training.updates import LoopConfig, LoopKeys
from cnnjax.types import Batch, Examples

IMAGE = (2, 3, 4)
ENTRIES = 24  # as many as float32 can tell apart in one number
STEPS, BATCH_SIZE = 80, 16


def dropping(rate: float):
    """Return a network that drops, and nothing more: what comes out is the mask."""
    config = ModelConfig(
        input_shape=IMAGE, layers=(Dropout(rate), Flatten()), initializer=PYTORCH
    )
    return functools.partial(models.make_apply(config), {})


@functools.cache
def outputs(rate: float) -> np.ndarray:
    """Return what is made of ones, [step, position in the batch, entry]."""
    network, image = dropping(rate), jnp.ones(IMAGE)
    key = keys_of(0).dropout

    @jax.jit
    @jax.vmap
    def of_step(step):
        keys = example_keys(key, step, batch_size=BATCH_SIZE)
        return jax.vmap(lambda key: network(image, key=key))(keys)

    return np.asarray(of_step(jnp.arange(STEPS)))


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_entries_are_zero_or_rescaled_and_the_mean_stays(rate):
    values = outputs(rate)
    kept = values != 0
    np.testing.assert_allclose(values[kept], 1 / (1 - rate), rtol=1e-6)
    image = jnp.linspace(-3.0, 3.0, ENTRIES).reshape(IMAGE)
    dropped = dropping(rate)(image, key=jax.random.key(0))
    factor = np.asarray(dropped) / np.ravel(image)
    assert set(np.round(factor * (1 - rate), 5)) == {0, 1}
    np.testing.assert_array_equal(dropping(rate)(image), np.ravel(image))


@pytest.mark.parametrize("rate", [0.25, 0.5])
@pytest.mark.parametrize("axis", ["step", "position", "entry"])
def test_the_rate_is_that_of_every_step_position_and_entry(axis, rate):
    dropped = outputs(rate) == 0
    others = {"step": (1, 2), "position": (0, 2), "entry": (0, 1)}[axis]
    shares = dropped.mean(axis=others)
    deviation = np.sqrt(rate * (1 - rate) * shares.size / dropped.size)
    assert np.abs(shares - rate).max() < 5 * deviation


def test_no_two_examples_have_the_same_mask():
    """In a batch, in another update, anywhere: 1280 masks of 24 entries."""
    masks = outputs(0.5).reshape(-1, ENTRIES) != 0
    distinct = len({mask.tobytes() for mask in masks})
    assert distinct >= len(masks) - 2  # of fair tosses, two are alike once in 20 times
    keys = [example_keys(jax.random.key(0), step, batch_size=300) for step in range(99)]
    data = np.concatenate([jax.random.key_data(drawn) for drawn in keys])
    assert len(np.unique(data, axis=0)) == 99 * 300


def correlations(masks: np.ndarray, lag: tuple[int, int]) -> np.ndarray:
    """Correlate each entry with each, of examples so many steps and positions apart."""
    step, position = lag
    centred = (masks - masks.mean()) / masks.std()
    one = centred[: STEPS - step, : BATCH_SIZE - position].reshape(-1, ENTRIES)
    other = centred[step:, position:].reshape(-1, ENTRIES)
    scores = one.T @ other / np.sqrt(len(one))  # each as a deviation of 1
    return scores - np.diag(np.diag(scores)) if lag == (0, 0) else scores


@pytest.mark.parametrize("lag", [(0, 0), (0, 1), (0, 8), (1, 0), (1, 1), (2, 0)])
def test_entries_are_dropped_independently(lag):
    """Of one mask (a channel, a row), of neighbours, and from update to update."""
    masks = (outputs(0.5) != 0).astype(float)
    assert np.abs(correlations(masks, lag)).max() < 5.5


def test_whole_channels_and_masks_that_only_move_would_be_caught():
    masks = (outputs(0.5) != 0).astype(float)
    channels = masks.reshape(STEPS, BATCH_SIZE, 6, 4)[:, :, :1].repeat(6, axis=2)
    moved = masks.copy()
    moved[:, 1::2] = np.roll(masks[:, ::2], 1, axis=-1)
    for mutant, lag in ((channels.reshape(masks.shape), (0, 0)), (moved, (0, 1))):
        assert np.abs(correlations(mutant, lag)).max() > 10


def mask_of_each(example: jax.Array, label: jax.Array, key: jax.Array | None) -> dict:
    """Return the mask as one whole number, under the name of the example's label."""
    kept = (dropping(0.5)(example, key=key) != 0).astype(jnp.float32)
    number = kept @ 2.0 ** jnp.arange(ENTRIES)
    return {f"mask_{i}": jnp.where(label == i, number, 0.0) for i in range(6)}


def loss_fn(params, example, label, key):
    return params["w"] * example.mean(), mask_of_each(example, label, key)


SIX = Examples(np.ones((6, *IMAGE), np.float32), np.arange(6, dtype=np.int32))


def test_masks_of_a_training_run_never_come_back():
    """Over places in the batch, updates and epochs: each epoch sees the same places."""
    config = OptimizerConfig(algorithm=Sgd(), learning_rate=0.0)
    schedule = make_schedule(config, steps_per_epoch=2)
    _, records = train(
        {"w": jnp.ones(())},
        SIX,
        strategy=STRATEGIES["jit"](loss_fn),
        optimizer=make_optimizer(config, schedule),
        schedule=schedule,
        config=LoopConfig(batch_size=4, epochs=40, shuffle="never"),
        keys=LoopKeys(keys_of(0).order, keys_of(0).dropout),
    )
    means = [record.steps.means for record in records]
    masks = np.array([[epoch[f"mask_{i}"] for i in range(6)] for epoch in means])
    drawn = masks[masks > 0]  # [epoch, example, update]: each example is in one update
    assert drawn.size == 6 * 40
    assert len(np.unique(drawn)) == drawn.size


@functools.cache
def six_masks(name: str, num_devices: int, microbatch_size: int | None) -> list[float]:
    mesh = devices.make_mesh(num_devices) if name in DIVIDED else None
    strategy = STRATEGIES[name](loss_fn, Options(mesh, microbatch_size=microbatch_size))
    batch = Batch(
        jnp.asarray(SIX.inputs),
        jnp.asarray(SIX.labels),
        jnp.ones(6),
        example_keys(keys_of(0).dropout, 7, batch_size=6),
    )
    placed = strategy.put_state({"w": jnp.ones(())}), strategy.put_batch(batch)
    metrics, _ = jax.jit(strategy.value_and_grad)(*placed)
    return [round(6 * float(metrics.means[f"mask_{i}"])) for i in range(6)]


@pytest.mark.parametrize(
    ("name", "num_devices", "microbatch_size"),
    [
        ("sharded", 3, 2),
        ("shard_map_vmap", 4, None),
        pytest.param("jit", 1, 4, marks=pytest.mark.slow),
        pytest.param("pmap", 2, 1, marks=pytest.mark.slow),
    ],
)
def test_a_mask_is_the_same_however_a_batch_is_split(
    name, num_devices, microbatch_size
):
    network = jax.jit(jax.vmap(mask_of_each))
    keys = example_keys(keys_of(0).dropout, 7, batch_size=6)
    each = network(jnp.asarray(SIX.inputs), jnp.asarray(SIX.labels), keys)
    expected = [round(float(each[f"mask_{i}"].sum())) for i in range(6)]
    got = six_masks(name, num_devices, microbatch_size)
    np.testing.assert_allclose(got, expected, atol=4)  # a mean is rounded
