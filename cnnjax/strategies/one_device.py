"""The rows that run on one device."""

from __future__ import annotations

from cnnjax.base.errors import InputError
from cnnjax.gradients import factors, reductions
from cnnjax.gradients.per_example import example_share, rows_share
from cnnjax.gradients.shares import batch_share, serial_share
from cnnjax.strategies.options import NO_OPTIONS, Options, on_one_device
from cnnjax.types import LossFn, Strategy


def eager(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Run the batch gradient operation by operation, un-jitted.

    Where do the arrays live? On one device. Who takes the mean? The loss, over the
    batch axis. What is communicated? Nothing. When is it not valid? Always valid, and
    slow: each operation is dispatched from Python. Use it to step through with a
    debugger.
    """
    return on_one_device(batch_share(loss_fn), options)._replace(run="eager")


def serial(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Go through the batch one example at a time, jitted: the reference.

    Where do the arrays live? On one device. Who takes the mean? A running sum over
    the examples, divided by the sum of their weights. What is communicated? Nothing.
    When is it not valid? Always valid: the other rows are compared with it.
    """
    return on_one_device(serial_share(loss_fn), options)


def jit(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Run the batch gradient as one compiled program: parallel per operation.

    Where do the arrays live? On one device, whose compiler splits each operation over
    its cores. Who takes the mean? The loss, over the batch axis. What is communicated?
    Nothing. When is it not valid? Always valid.
    """
    return on_one_device(batch_share(loss_fn), options)


def vmap(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the gradient of each example, then their mean: parallel per sample.

    Where do the arrays live? On one device. Who takes the mean? A weighted sum over the
    rows of gradients. What is communicated? Nothing. When is it not valid? Always
    valid; whether rows are formed is XLA's choice, as only their mean is asked for.
    """
    return on_one_device(example_share(loss_fn), options)


def vmap_norms(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the gradient of each example and its norm; the mean norm is a metric.

    Where do the arrays live? On one device, a row of gradients for each example. Who
    takes the mean? A weighted sum over the rows. What is communicated? Nothing. When is
    it not valid? Always valid; the rows take the memory of the parameters times the
    batch (or the microbatch).
    """
    return on_one_device(rows_share(loss_fn, reductions.norms), options)


def factored(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the batch gradient layer by layer, as a product of two flat matrices.

    Where do the arrays live? On one device: each layer's input, and the cotangent of
    what it computes. Who takes the mean? The weights, which are in the loss of each
    example; one matrix product a layer adds up. What is communicated? Nothing. When is
    it not valid? For a loss that is not built on a stack of layers: it needs
    `options.factors_fn`. It pays on CPUs, where `layers.conv2d` lays patches out
    anyway; elsewhere they would be laid out for this alone.

    Raises:
        InputError: no `factors_fn` is given.
    """
    factors_fn = _factors_fn(options, name="factored", without="jit")
    return on_one_device(factors.mean_share(factors_fn), options)


def factored_norms(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Take the norm of each example's gradient, and form only what is small of it.

    Where do the arrays live? On one device: each layer's input, and the cotangent of
    what it computes. Who takes the mean? One product a layer, over examples and
    positions, or over its small gradients. What is communicated? Nothing. When is it
    not valid? For a loss that is not built on a stack of layers: it needs
    `options.factors_fn`.

    Raises:
        InputError: no `factors_fn` is given.
    """
    factors_fn = _factors_fn(options, name="factored_norms", without="vmap_norms")
    return on_one_device(factors.norms_share(factors_fn), options)


def _factors_fn(options: Options, *, name: str, without: str) -> factors.FactorsFn:
    if options.factors_fn is None:
        raise InputError(
            f"strategy {name!r} expected Options(factors_fn=...), got none; make one "
            f"with factors.make_factors_fn, or use {without!r}"
        )
    return options.factors_fn
