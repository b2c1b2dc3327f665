"""The learning rates of the published run; Adam, SGD and L2 in a few NumPy lines."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.base.errors import InputError
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import RECIPES
from cnnjax.training.algorithms import Adam, AdamW, Muon, Sgd, is_weight
from cnnjax.training.optimizers import OptimizerConfig, make_optimizer, make_schedule
from cnnjax.training.schedules import Constant, Cosine, OneCycle, WarmupCosine

CONFIG = RECIPES["adam_cosine_cnn"].optimizer


def test_the_ten_learning_rates_of_the_published_run():
    schedule = make_schedule(CONFIG, steps_per_epoch=938)
    for epoch in range(10):
        expected = 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + np.cos(np.pi * epoch / 20))
        for step in (epoch * 938, epoch * 938 + 937):  # constant within the epoch
            np.testing.assert_allclose(schedule(step), expected, rtol=1e-6)
    assert f"{float(schedule(0)):.3e}, {float(schedule(9 * 938)):.3e}" == (
        "1.000e-03, 5.824e-04"
    )


def test_the_cosine_ends_at_its_lowest_and_can_move_every_step():
    by_epoch = make_schedule(CONFIG, steps_per_epoch=10)
    np.testing.assert_allclose([by_epoch(200), by_epoch(999)], 1e-5, rtol=1e-4)
    config = OptimizerConfig(
        algorithm=Adam(),
        learning_rate=1.0,
        schedule=Cosine(cosine_epochs=2, cosine_unit="step"),
    )
    by_step = make_schedule(config, steps_per_epoch=10)
    rates = [float(by_step(step)) for step in range(21)]
    np.testing.assert_allclose(
        rates, (1 + np.cos(np.pi * np.arange(21) / 20)) / 2, atol=1e-6
    )


PARAMS = {"dense_0": {"kernel": np.array([[0.5, -1.5]]), "bias": np.array([0.3, 0.7])}}


def gradient(step: int, value: np.ndarray) -> np.ndarray:
    return np.cos(step + 3.0 * value)


def adam_by_hand(value, *, l2: float, steps: int):
    """Kingma and Ba's algorithm 1, with the L2 in the gradient."""
    m = v = 0.0
    for t in range(1, steps + 1):
        g = gradient(t, value) + l2 * value
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        rate = 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + np.cos(np.pi * ((t - 1) // 4) / 20))
        value = value - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return value


def run_optimizer(optimizer, *, steps: int):
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    for step in range(1, steps + 1):
        value = functools.partial(gradient, step)
        grads = jax.tree.map(lambda p, of=value: jnp.asarray(of(np.asarray(p))), params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params["dense_0"]


def test_adam_and_its_l2_equal_numpy_in_float64():
    with jax.enable_x64(True):
        schedule = make_schedule(CONFIG, steps_per_epoch=4)
        got = run_optimizer(make_optimizer(CONFIG, schedule), steps=25)
    kernel, bias = (PARAMS["dense_0"][name] for name in ("kernel", "bias"))
    by_hand = adam_by_hand(kernel, l2=1e-4, steps=25)
    np.testing.assert_allclose(got["kernel"], by_hand, rtol=1e-9)
    np.testing.assert_allclose(
        got["bias"], adam_by_hand(bias, l2=0.0, steps=25), rtol=1e-9
    )
    # The mutants: L2 left out of the kernel, or put on the bias.
    assert not np.allclose(
        got["kernel"], adam_by_hand(kernel, l2=0.0, steps=25), rtol=1e-9
    )
    assert not np.allclose(
        got["bias"], adam_by_hand(bias, l2=1e-4, steps=25), rtol=1e-9
    )


def test_the_l2_is_coupled_not_adamws():
    """Decoupled, the same coefficient gives other parameters."""
    with jax.enable_x64(True):
        schedule = make_schedule(CONFIG, steps_per_epoch=4)
        got = run_optimizer(make_optimizer(CONFIG, schedule), steps=25)
        adamw = optax.adamw(schedule, weight_decay=1e-4, mask=is_weight)
        other = run_optimizer(adamw, steps=25)
    assert not np.allclose(got["kernel"], other["kernel"], rtol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_equals_numpy_in_float64(momentum):
    config = OptimizerConfig(algorithm=Sgd(momentum=momentum), learning_rate=0.05)
    with jax.enable_x64(True):
        schedule = make_schedule(config, steps_per_epoch=1)
        got = run_optimizer(make_optimizer(config, schedule), steps=10)
    for name, value in PARAMS["dense_0"].items():
        velocity = 0.0
        for t in range(1, 11):
            velocity = momentum * velocity + 0.05 * gradient(t, value)
            value = value - velocity
        np.testing.assert_allclose(got[name], value, rtol=1e-9)


# The published equations, one number after another: no Optax, no tree of arrays.

NETWORK = {  # (layer, leaf): shape; three kernels, of which two are of one kind
    ("conv_0", "kernel"): (2, 2, 1, 2),
    ("conv_0", "bias"): (2,),
    ("dense_3", "kernel"): (3, 2),
    ("dense_3", "bias"): (2,),
    ("dense_5", "kernel"): (2, 2),
    ("dense_5", "bias"): (2,),
}
STEPS_PER_EPOCH = 3
SCHEDULES = {
    "constant": Constant(),
    "by epoch": Cosine(cosine_epochs=3, min_learning_rate=0.002),
    "by step": Cosine(cosine_epochs=2, cosine_unit="step"),
    "one cycle": OneCycle(pct_start=0.4, div_factor=4.0, final_div_factor=50.0),
    "one cycle without a rise": OneCycle(pct_start=0.05),
    "warm-up": WarmupCosine(warmup_epochs=0.7, min_learning_rate=0.01),
    "hardly a warm-up": WarmupCosine(warmup_epochs=0.0),
}
EPOCHS = 3  # of STEPS_PER_EPOCH updates


def rate_by_hand(config: OptimizerConfig, step: int) -> float:
    """Loshchilov and Hutter's equation 5, no restart; Smith and Topin's cycle."""
    match config.schedule:
        case Constant():
            return config.learning_rate
        case Cosine(cosine_epochs=epochs, min_learning_rate=low, cosine_unit=unit):
            done = step / STEPS_PER_EPOCH
            done = math.floor(done) if unit == "epoch" else done
            cosine = math.cos(math.pi * min(done / epochs, 1))
            return low + (config.learning_rate - low) * (1 + cosine) / 2
        case OneCycle(pct_start=rise, div_factor=div, final_div_factor=final):
            total, most = EPOCHS * STEPS_PER_EPOCH, config.learning_rate
            top, first = max(rise * total - 1, 0), most / div
            if step < top:
                return first + (most - first) * step / top
            left = max(1 - (step - top) / (total - 1 - top), 0)
            return first / final + (most - first / final) * left
        case WarmupCosine(warmup_epochs=epochs, min_learning_rate=low):
            total, most = EPOCHS * STEPS_PER_EPOCH, config.learning_rate
            warm = max(1, round(epochs * STEPS_PER_EPOCH))
            if step < warm:
                return most * (step + 1) / warm
            done = min(1, (step - warm) / (total - warm))
            return low + (most - low) * (1 + math.cos(math.pi * done)) / 2


def updated_by_hand(config: OptimizerConfig, start: dict, grads: list[dict]) -> dict:
    """Adam (Kingma and Ba, algorithm 1), or momentum; L2 in the kernels' gradients.

    AdamW: Loshchilov and Hutter, algorithm 2; Nesterov: PyTorch's SGD.
    """
    ended = {}
    if (most := config.max_norm) is not None:
        norms = [math.sqrt(sum(np.sum(g**2) for g in of.values())) for of in grads]
        assert min(norms) < most < max(norms), "some are clipped, some are not"
        shares = [min(1.0, most / norm) for norm in norms]
        grads = [
            {name: share * g for name, g in of.items()}
            for share, of in zip(shares, grads, strict=True)
        ]
    for (layer, leaf), values in start.items():
        decay = config.l2 if leaf == "kernel" else 0.0
        ended[layer, leaf] = np.empty_like(values)
        for place in np.ndindex(values.shape):
            x, m, v = float(values[place]), 0.0, 0.0
            for t, of_step in enumerate(grads, start=1):
                g = float(of_step[layer, leaf][place]) + decay * x
                rate = rate_by_hand(config, t - 1)
                match config.algorithm:
                    case Sgd(momentum=momentum, nesterov=nesterov):
                        m = momentum * m + g
                        x -= rate * (g + momentum * m if nesterov else m)
                    case AdamW(b1=b1, b2=b2, eps=eps, weight_decay=weight_decay):
                        m = b1 * m + (1 - b1) * g
                        v = b2 * v + (1 - b2) * g**2
                        unbiased = m / (1 - b1**t), v / (1 - b2**t)
                        own = weight_decay * x if leaf == "kernel" else 0.0
                        x -= rate * (unbiased[0] / (math.sqrt(unbiased[1]) + eps) + own)
                    case Adam(b1=b1, b2=b2, eps=eps):
                        m = b1 * m + (1 - b1) * g
                        v = b2 * v + (1 - b2) * g**2
                        unbiased = m / (1 - b1**t), v / (1 - b2**t)
                        x -= rate * unbiased[0] / (math.sqrt(unbiased[1]) + eps)
            ended[layer, leaf][place] = x
    return ended


def as_tree(leaves: dict) -> dict:
    tree = {}
    for (layer, leaf), values in leaves.items():
        tree.setdefault(layer, {})[leaf] = jnp.asarray(values)
    return tree


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize(
    "algorithm",
    [
        *(Sgd(), Sgd(momentum=0.8), Sgd(momentum=0.8, nesterov=True)),
        *(Adam(), Adam(b1=0.7, b2=0.8, eps=0.01), AdamW(weight_decay=0.2)),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "other adam", "adamw"],
)
def test_every_leaf_follows_the_published_equations(algorithm, l2, schedule):
    config = OptimizerConfig(
        algorithm=algorithm, learning_rate=0.05, l2=l2, schedule=SCHEDULES[schedule]
    )
    rng = np.random.default_rng(0)
    # They shrink, so that Adam's second moment falls, too.
    start, *grads = (
        {name: scale * rng.standard_normal(shape) for name, shape in NETWORK.items()}
        for scale in (1.0, 3.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.1, 0.1, 0.1)
    )
    check_by_hand(config, start, grads)


def test_the_norm_of_all_leaves_is_clipped_before_the_l2():
    """Mistakes: each leaf by its own norm, or the sum with the L2."""
    config = OptimizerConfig(
        algorithm=Sgd(momentum=0.8), learning_rate=0.05, l2=0.3, max_norm=3.0
    )
    rng = np.random.default_rng(0)
    start, *grads = (
        {name: scale * rng.standard_normal(shape) for name, shape in NETWORK.items()}
        for scale in (1.0, 3.0, 0.1, 1.0)
    )
    check_by_hand(config, start, grads)


def check_by_hand(config: OptimizerConfig, start: dict, grads: list[dict]) -> None:
    """Compare with one number after another."""
    expected = updated_by_hand(config, start, grads)
    with jax.enable_x64(True):
        rates = make_schedule(config, steps_per_epoch=STEPS_PER_EPOCH, epochs=EPOCHS)
        optimizer = make_optimizer(config, rates)
        params = as_tree(start)
        state = optimizer.init(params)
        for of_step in grads:
            updates, state = optimizer.update(as_tree(of_step), state, params)
            params = optax.apply_updates(params, updates)
    for (layer, leaf), values in expected.items():
        np.testing.assert_allclose(params[layer][leaf], values, rtol=1e-9)


KERNEL = jnp.array([1.0, -2.0])


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


@pytest.mark.parametrize(
    ("params", "shrunk"),
    [
        ({"kernel": KERNEL}, [True]),
        ([{"kernel": KERNEL}, {"bias": KERNEL}], [True, False]),
        (({"kernel": KERNEL}, KERNEL), [True, False]),
        (Layer(KERNEL, KERNEL), [True, False]),
        ({"embedding": {"w": KERNEL, "kernel": KERNEL}}, [True, False]),
        ({"kernel": {"w": KERNEL}, "b": {"kernel": KERNEL}}, [True, False]),
    ],
)
def test_the_l2_shrinks_the_kernels_of_any_tree(params, shrunk):
    config = OptimizerConfig(algorithm=Sgd(), learning_rate=0.5, l2=0.5)
    optimizer = make_optimizer(config, optax.constant_schedule(0.5))
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(nothing, optimizer.init(params), params)
    expected = [jnp.where(one, -0.25 * KERNEL, 0.0) for one in shrunk]
    np.testing.assert_array_equal(jax.tree.leaves(updates), expected)


@pytest.mark.parametrize(
    ("params", "leaves"),
    [
        ({"w": KERNEL, "b": KERNEL}, "['b', 'w']"),
        ({"embed": {"embedding": KERNEL}}, "['embed/embedding']"),
        ([KERNEL, KERNEL], "['0', '1']"),
        (KERNEL, "['']"),
        ({"kernel": [KERNEL]}, "['kernel/0']"),
        ({}, "[]"),
    ],
)
def test_an_l2_without_a_kernel_to_shrink_is_refused(params, leaves):
    config = OptimizerConfig(algorithm=Adam(), learning_rate=0.5, l2=1e-4)
    optimizer = make_optimizer(config, optax.constant_schedule(0.5))
    with pytest.raises(InputError, match="of the name kernel, .*l2=0") as refusal:
        optimizer.init(params)
    assert f"got leaves {leaves};" in str(refusal.value)
    without = dataclasses.replace(config, l2=0.0)
    make_optimizer(without, optax.constant_schedule(0.5)).init(params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learning_rate": float("nan")},
            "learning_rate finite and at least 0, got nan",
        ),
        ({"learning_rate": -1.0}, "learning_rate finite and at least 0, got -1.0"),
        ({"learning_rate": 0.0}, "learning_rate above 0 for a cosine, got 0.0"),
        ({"l2": float("inf")}, "l2 finite"),
        ({"b1": 1.0}, r"b1 in \[0, 1\), got 1.0"),
        ({"eps": 0.0}, "eps above 0, got 0.0"),
        ({"cosine_epochs": 0}, "cosine_epochs of at least 1, got 0"),
        ({"min_learning_rate": 1.0}, "min_learning_rate at most 0.001, got 1.0"),
        ({"algorithm": "adamm"}, "unknown algorithm 'adamm'; did you mean adam"),
        ({"max_norm": 0.0}, "max_norm above 0, got 0.0"),
        ({"algorithm": "sgd", "nesterov": True}, "momentum above 0 with nesterov, got"),
        ({"algorithm": "adamw", "weight_decay": -1.0}, "weight_decay finite and at le"),
        ({"weight_decay": 0.1}, "with Adam and Cosine, has no weight_decay to set"),
        ({"label_smoothing": 1.0}, r"label_smoothing in \[0, 1\), got 1.0"),
        ({"warmup_epochs": 2.0}, "with Adam and Cosine, has no warmup_epochs to set"),
        ({"momentum": 0.9}, "with Adam and Cosine, has no momentum to set"),
        ({"schedule": "constant", "cosine_epochs": 3}, "has no cosine_epochs to set"),
    ],
)
def test_senseless_values_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        override(RECIPES["adam_cosine_cnn"], **changes)


def test_a_change_of_kind_keeps_the_rest():
    changed = override(RECIPES["sgd_dropout_cnn"], schedule="cosine", epochs=7)
    assert changed.optimizer == OptimizerConfig(
        algorithm=Sgd(), learning_rate=0.05, schedule=Cosine(cosine_epochs=7)
    )
    changed = override(RECIPES["adam_cosine_cnn"], algorithm="sgd", momentum=0.5)
    assert changed.optimizer.algorithm == Sgd(momentum=0.5)
    assert changed.optimizer.schedule == CONFIG.schedule
    same = override(RECIPES["adam_cosine_cnn"], schedule="cosine", cosine_epochs=5)
    assert same.optimizer.schedule == Cosine(cosine_epochs=5, min_learning_rate=1e-5)


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """Five steps of the Newton-Schulz iteration, as K. Jordan wrote it."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (np.linalg.norm(matrix) + 1e-8)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def muon_by_hand(start: np.ndarray, grads: list[np.ndarray], config: OptimizerConfig):
    """Nesterov's momentum, unbiased as in Optax; then the nearest orthogonal matrix."""
    beta, x = config.algorithm.momentum, start.copy()
    m = np.zeros_like(x)
    for t, g in enumerate(grads, start=1):
        m = beta * m + (1 - beta) * g
        ahead = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
        matrix = ahead.reshape(-1, x.shape[-1])
        inputs, outputs = matrix.shape
        step = math.sqrt(max(1.0, outputs / inputs)) * orthogonal(matrix)
        own = config.algorithm.weight_decay * x
        x = x - config.learning_rate * (step.reshape(x.shape) + own)
    return x


def nadam_by_hand(start: np.ndarray, grads: list[np.ndarray], *, rate: float):
    """Adam that looks ahead by Nesterov's momentum: Dozat, 2016, as in Optax."""
    x, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t, g in enumerate(grads, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        ahead = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
        x = x - rate * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return x


def test_muon_makes_each_kernel_orthogonal_as_one_matrix():
    """A convolution's kernel is one matrix, too; a bias takes NAdam's update."""
    config = OptimizerConfig(algorithm=Muon(weight_decay=0.1), learning_rate=0.05)
    rng = np.random.default_rng(0)
    start, *grads = (
        {name: rng.standard_normal(shape) for name, shape in NETWORK.items()}
        for _ in range(4)
    )
    with jax.enable_x64(True):
        optimizer = make_optimizer(config, optax.constant_schedule(0.05))
        params, state = as_tree(start), optimizer.init(as_tree(start))
        for of_step in grads:
            updates, state = optimizer.update(as_tree(of_step), state, params)
            params = optax.apply_updates(params, updates)
    for (layer, leaf), values in start.items():
        of_leaf = [of_step[layer, leaf] for of_step in grads]
        if leaf == "kernel":
            expected = muon_by_hand(values, of_leaf, config)
        else:
            expected = nadam_by_hand(values, of_leaf, rate=0.05)
        np.testing.assert_allclose(params[layer][leaf], expected, rtol=1e-6)
