"""What a loss of one's own may return: the same answer under every strategy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forms import (
    BATCH,
    PARAMS,
    forms_of,
    logits_of,
    mean_of_losses,
    returning,
)
from jax import lax

from cnnjax import devices
from cnnjax.base.errors import InputError
from cnnjax.laws.comparison import largest_error
from cnnjax.models.contract import RESERVED, checked
from cnnjax.training.evaluation import make_evaluate
from cnnjax.types import Examples

# What is compiled for one loss serves all tests of it.
pytestmark = pytest.mark.xdist_group("contract")


@jax.custom_vjp
def summed_backwards(value):
    """Change nothing, but add the gradients of all devices up."""
    return value


summed_backwards.defvjp(
    lambda value: (value, None), lambda _, g: (lax.psum(g, devices.AXIS),)
)

REFUSED = {
    "shape (1,)": (lambda loss, *_: (loss[None], {}), "got shape (1,)"),
    "shape (1, 1)": (lambda loss, *_: loss[None, None], "got shape (1, 1)"),
    "a loss for each class": (lambda loss, *_: jnp.full(3, loss), "got shape (3,)"),
    "complex": (lambda loss, *_: (loss * (1 + 0j), {}), "complex64"),
    "a whole number": (lambda loss, *_: loss.astype(int), "int32: it has no gradient"),
    "a truth value": (lambda loss, *_: loss > 1, "bool: it has no gradient"),
    "nothing": (lambda *_: None, "got NoneType"),
    "a word": (lambda *_: "loss", "got str"),
    "three values": (lambda loss, *_: (loss, {}, {}), "expected a loss"),
    "logits beside it": (lambda loss, p, x, y: (loss, logits_of(p, x)), "metrics of"),
    "a metric of shape (1,)": (
        lambda loss, *_: (loss, {"hit": loss[None]}),
        "metric 'hit' of ONE example as one number, of shape (), got shape (1,)",
    ),
    "a metric for each class": (
        lambda loss, p, x, y: (loss, {"logits": logits_of(p, x)}),
        "metric 'logits'",
    ),
    "a complex metric": (lambda loss, *_: (loss, {"z": loss * 1j}), "complex64"),
    "nested metrics": (lambda loss, *_: (loss, {"a": {"b": loss}}), "metric 'a'"),
    "a metric that is a key": (
        lambda loss, *_: (loss, {"k": jax.random.key(0)}),
        "metric 'k' to be a real number",
    ),
    "a metric without a name": (lambda loss, *_: (loss, {1: loss}), "got 1"),
    "a mean over devices": (
        lambda loss, *_: lax.pmean(loss, devices.AXIS),
        "without axes of a batch or of devices",
    ),
    "its place among the devices": (
        lambda loss, *_: loss * (1 + lax.axis_index(devices.AXIS)),
        "without axes of a batch or of devices",
    ),
    "a sum over devices in an inner function": (
        lambda loss, *_: jax.jit(lambda x: lax.psum(x, devices.AXIS))(loss),
        "without axes of a batch or of devices",
    ),
    "the number of devices": (
        lambda loss, *_: loss / lax.axis_size(devices.AXIS),
        "without axes of a batch or of devices",
    ),
    "the number of devices, counted": (
        lambda loss, *_: loss / lax.psum(1, devices.AXIS),
        "without axes of a batch or of devices",
    ),
    "a metric by the number of devices": (
        lambda loss, *_: (loss, {"part": loss / lax.axis_size(devices.AXIS)}),
        "without axes of a batch or of devices",
    ),
    "a metric beyond float32": (
        lambda loss, *_: (loss, {"large": np.float64(1e300)}),
        "metric 'large' within float32, got",
    ),
    "a metric beyond every type": (
        lambda loss, *_: (loss, {"large": 10**400}),
        "metric 'large' within float32, got",
    ),
    "a mean over the batch": (
        lambda loss, *_: loss - lax.pmean(loss, "batch"),
        "without axes of a batch or of devices",
    ),
}
REFUSED |= {
    f"a metric named {name}": (
        lambda loss, *_, name=name: (loss, {name: loss}),
        f"got {name!r}; give it another name",
    )
    for name in RESERVED
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_loss_that_breaks_the_contract_is_refused_alike_everywhere(what):
    value_fn, told = REFUSED[what]
    loss_fn = returning(value_fn)
    for name, run in forms_of(loss_fn).items():
        with pytest.raises(InputError) as caught:
            jax.eval_shape(run, BATCH)
        assert told in str(caught.value), (name, str(caught.value))
        assert "\n" not in str(caught.value), name
    examples = Examples(np.asarray(BATCH.inputs), np.asarray(BATCH.labels))
    with pytest.raises(InputError) as caught:
        make_evaluate(loss_fn, examples, PARAMS)(PARAMS)
    assert told in str(caught.value)


ACCEPTED = {
    "a pair": lambda loss, *_: (loss, {}),
    "the loss alone": lambda loss, *_: loss,
    "metrics of every type": lambda loss, p, x, y: (
        loss,
        {
            "hit": jnp.argmax(logits_of(p, x)) == y,
            "label": y,
            "byte": y.astype(jnp.uint8),
            "half": loss.astype(jnp.bfloat16),
            "constant": 2,
            "fraction": np.float64(0.5),
            "large": 2**40,
            "large in NumPy": np.int64(2**40),
        },
    ),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_may_be_returned_gives_the_same_everywhere(what):
    loss_fn = returning(ACCEPTED[what])
    expected, grads = jax.value_and_grad(mean_of_losses)(PARAMS)
    labels = jnp.sum(BATCH.labels * BATCH.weights) / BATCH.weights.sum()
    for name, run in forms_of(loss_fn).items():
        metrics, actual = run(BATCH)
        assert largest_error(actual, grads) <= 1e-5, name
        means = metrics.means
        np.testing.assert_allclose(means["loss"], expected, rtol=1e-5, err_msg=name)
        assert all(mean.dtype == jnp.float32 for mean in means.values()), name
        if "label" in means:
            exact = {"label": labels, "byte": labels, "constant": 2, "fraction": 0.5}
            exact |= {"large": 2**40, "large in NumPy": 2**40}
            for metric, value in exact.items():
                np.testing.assert_allclose(means[metric], value, 1e-6, err_msg=name)


def test_evaluation_tells_metrics_of_every_type():
    loss_fn = returning(ACCEPTED["metrics of every type"])
    examples = Examples(np.asarray(BATCH.inputs), np.asarray(BATCH.labels))
    told = make_evaluate(loss_fn, examples, PARAMS, batch_size=5)(PARAMS)
    assert told["label"] == pytest.approx(1.0)
    assert told["constant"] == 2
    assert told["examples"] == 12


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_loss_in_half_precision_is_added_up_in_float32(dtype):
    loss_fn = returning(lambda loss, *_: loss.astype(dtype))
    exact = jax.grad(mean_of_losses)(PARAMS)
    for name, run in forms_of(loss_fn).items():
        metrics, grads = run(BATCH)
        assert metrics.means["loss"].dtype == jnp.float32
        assert largest_error(grads, exact) <= 0.01, name


def test_a_loss_may_close_over_what_is_traced():
    """As where the caller differentiates by, or maps over, a number in the loss."""

    def scaled(scale):
        loss_fn = returning(lambda loss, *_: loss * scale)
        forms = forms_of.__wrapped__(loss_fn)
        return [run(BATCH)[1]["head"]["bias"] for run in forms.values()]

    at_two = jax.jit(scaled)(2.0)
    for twice, once in zip(at_two, scaled(1.0), strict=True):
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


def test_the_check_leaves_nothing_in_the_program():
    loss_fn = returning(ACCEPTED["a pair"])
    arguments = PARAMS, BATCH.inputs[0], BATCH.labels[0], None
    plain = jax.make_jaxpr(loss_fn)(*arguments)
    same = jax.make_jaxpr(lambda *a: checked(loss_fn)(*a)[0])(*arguments)
    assert str(same) == str(plain)


def test_a_gradient_that_is_summed_over_devices_is_refused_alike_everywhere():
    """Where the loss is only evaluated, nothing of it is seen, or wrong."""
    loss_fn = returning(lambda loss, *_: summed_backwards(loss))
    for name, run in forms_of(loss_fn).items():
        with pytest.raises(InputError) as caught:
            jax.eval_shape(run, BATCH)
        assert "without axes of a batch or of devices" in str(caught.value), name


def test_an_axis_of_the_losss_own_is_right_or_refused():
    """JAX's shard_map fails an assertion of its own there, and says nothing of it."""

    def value_fn(loss, params, example, label):
        middle = jax.vmap(lambda a: a - lax.pmean(a, "own"), axis_name="own")(example)
        return loss + jnp.sum(middle)

    loss_fn, refusals = returning(value_fn), {}
    exact = jax.grad(mean_of_losses)(PARAMS)  # what is added has no gradient by them
    for name, run in forms_of(loss_fn).items():
        try:
            _, grads = run(BATCH)
        except InputError as error:
            refusals[name] = str(error)
        else:
            assert largest_error(grads, exact) <= 1e-5, name
    for name, told in refusals.items():
        assert "shard_map" in name
        assert "jax.vmap with axis_name=" in told
        assert "\n" not in told


def test_a_slip_of_the_losss_own_is_not_blamed_on_axes():
    loss_fn = returning(lambda loss, *_: loss / axis)
    for run in forms_of(loss_fn).values():
        with pytest.raises(NameError, match="name 'axis' is not defined"):
            jax.eval_shape(run, BATCH)
