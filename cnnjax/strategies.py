"""The table of strategies. Adding one is one function and one row.

A builder takes the loss of one example and `Options`, and returns a `Strategy`. The
laws in `tests/test_strategy_laws.py` go through this table, so a new row is tested at
once. Only what returns the mean gradient is a row.

Two choices make a row: the gradient rule (the batch at once, one example after another,
a gradient for each example) and the device map (none, sharded jit, shard_map, pmap).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PyTree

from cnnjax import factors, parallel, partitioning, reductions
from cnnjax.errors import InputError, expect, unknown_name
from cnnjax.gradients import ShareFn, batch_share, serial_share, whole
from cnnjax.microbatches import microbatched
from cnnjax.rows import example_share, rows_share
from cnnjax.types import LossFn, Strategy, ValueAndGradFn

DeviceMap = Callable[[ShareFn, Mesh], ValueAndGradFn]


class Options(NamedTuple):
    """What the rows can be told, besides the loss."""

    mesh: Mesh | None = None  # None: all devices
    # Examples taken at a time, by each device (`sharded`: by all); None: all at once.
    microbatch_size: int | None = None
    # What `factored_norms` is made from: see `factors.make_factors_fn`.
    factors_fn: factors.FactorsFn | None = None
    # How the two rows over `shard_map` run a share; a fault puts another in its place.
    device_map: DeviceMap = parallel.over_shard_map


NO_OPTIONS = Options()
Builder = Callable[..., Strategy]  # (loss_fn, options)


def eager(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Run the batch gradient operation by operation, un-jitted.

    Where do the arrays live? On one device. Who takes the mean? The loss, over the
    batch axis. What is communicated? Nothing. When is it not valid? Always valid, and
    slow: each operation is dispatched from Python. Use it to step through with a
    debugger.
    """
    return _on_one_device(batch_share(loss_fn), options)._replace(run="eager")


def serial(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Go through the batch one example at a time, jitted: the reference.

    Where do the arrays live? On one device. Who takes the mean? A running sum over
    the examples, divided by the sum of their weights. What is communicated? Nothing.
    When is it not valid? Always valid: the other rows are compared with it.
    """
    return _on_one_device(serial_share(loss_fn), options)


def jit(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Run the batch gradient as one compiled program: parallel per operation.

    Where do the arrays live? On one device, whose compiler splits each operation over
    its cores. Who takes the mean? The loss, over the batch axis. What is communicated?
    Nothing. When is it not valid? Always valid.
    """
    return _on_one_device(batch_share(loss_fn), options)


def vmap(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the gradient of each example, then their mean: parallel per sample.

    Where do the arrays live? On one device. Who takes the mean? A weighted sum over the
    rows of gradients. What is communicated? Nothing. When is it not valid? Always
    valid; whether rows are formed is XLA's choice, as only their mean is asked for.
    """
    return _on_one_device(example_share(loss_fn), options)


def vmap_norms(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the gradient of each example and its norm; the mean norm is a metric.

    Where do the arrays live? On one device, a row of gradients for each example. Who
    takes the mean? A weighted sum over the rows. What is communicated? Nothing. When is
    it not valid? Always valid; the rows take the memory of the parameters times the
    batch (or the microbatch).
    """
    return _on_one_device(rows_share(loss_fn, reductions.norms), options)


def factored_norms(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Take the norm of each example's gradient without forming it.

    Where do the arrays live? On one device: each layer's input, and the cotangent of
    what it computes. Who takes the mean? One matrix product a layer, over examples and
    positions. What is communicated? Nothing. When is it not valid? For a loss that is
    not built on a stack of layers: it needs `options.factors_fn`.

    Raises:
        InputError: no `factors_fn` is given.
    """
    if options.factors_fn is None:
        raise InputError(
            "strategy 'factored_norms' expected Options(factors_fn=...), got none; "
            "make one with factors.make_factors_fn, or use 'vmap_norms'"
        )
    return _on_one_device(factors.norms_share(options.factors_fn), options)


def sharded(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Write for one device, say how the batch is split, and let the compiler divide.

    Where do the arrays live? The batch in parts along the mesh's axis "data", all else
    on each device; along "model", where that has more than one, the dense kernels in
    parts. Who takes the mean? The loss, over the global batch axis. What is
    communicated? One all-reduce of the gradients, put in by the compiler; along "model"
    activations, too. When is it not valid? With per-example gradients: XLA partitions
    the convolutions of `vmap(grad)` wrongly and silently (jax-ml/jax issue 32157), so
    that rule has no such row.
    """
    on_mesh = _on_mesh(batch_share(loss_fn), options, parallel.over_sharded_jit)
    return on_mesh._replace(put_state=parallel.partition(_mesh(options)))


def shard_map(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Write what each device does with its part, by `shard_map`.

    Where do the arrays live? The batch in parts on the devices, all else on each. Who
    takes the mean? Each device its share of the global mean; the shares are added. What
    is communicated? A psum of the weights, one of gradients and metrics. When is it not
    valid? Always valid; see `parallel.device_body` for what makes it so.
    """
    return _on_mesh(batch_share(loss_fn), options, options.device_map)


def shard_map_vmap(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the gradients of each device's own examples, within `shard_map`.

    Where do the arrays live? The batch in parts on the devices, all else on each. Who
    takes the mean? Each device its share of the global mean; the shares are added. What
    is communicated? A psum of the weights, one of gradients and metrics; the rows stay
    where they are. When is it not valid? Always valid.
    """
    return _on_mesh(example_share(loss_fn), options, options.device_map)


def pmap(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Write what each device does with its part, by `pmap`: the legacy way.

    Where do the arrays live? The batch in parts on the devices, all else on each. Who
    takes the mean? Each device its share of the global mean; the shares are added. What
    is communicated? A psum of the weights, one of gradients and metrics. When is it not
    valid? Always valid, and in maintenance mode: since JAX 0.8 it is a `shard_map`.
    """
    return _on_mesh(batch_share(loss_fn), options, parallel.over_pmap)


def pmap_vmap(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the gradients of each device's own examples, within `pmap`.

    Where do the arrays live? The batch in parts on the devices, all else on each. Who
    takes the mean? Each device its share of the global mean; the shares are added. What
    is communicated? A psum of the weights, one of gradients and metrics; the rows stay
    where they are. When is it not valid? Always valid; legacy, as `pmap`.
    """
    return _on_mesh(example_share(loss_fn), options, parallel.over_pmap)


# The rows that divide a batch over the devices of a mesh.
DIVIDED = ("sharded", "shard_map", "shard_map_vmap", "pmap", "pmap_vmap")

# Those that can divide it over the devices of several processes: pmap takes only what
# is on the devices of its own.
ACROSS_PROCESSES = ("sharded", "shard_map", "shard_map_vmap")

STRATEGIES: dict[str, Builder] = {
    "eager": eager,
    "serial": serial,
    "jit": jit,
    "vmap": vmap,
    "vmap_norms": vmap_norms,
    "factored_norms": factored_norms,
    "sharded": sharded,
    "shard_map": shard_map,
    "shard_map_vmap": shard_map_vmap,
    "pmap": pmap,
    "pmap_vmap": pmap_vmap,
}


def make_strategy(
    name: str, loss_fn: LossFn, options: Options = NO_OPTIONS
) -> Strategy:
    """Build the named row of the table for a loss of one example.

    Raises:
        InputError: a name that is not in `STRATEGIES`, a microbatch of no size, a mesh
            with an axis "model" for a strategy that has no use for it, or several
            processes where the strategy runs in one.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    cut_among = 1 if options.mesh is None else options.mesh.shape[partitioning.MODEL]
    if cut_among > 1 and name != "sharded":
        raise InputError(
            f"strategy {name!r} expected one device along the axis 'model', got "
            f"{cut_among}; only 'sharded' cuts kernels"
        )
    if jax.process_count() > 1 and name not in ACROSS_PROCESSES:
        raise InputError(
            f"strategy {name!r} runs in one process, and here are "
            f"{jax.process_count()}; use {', '.join(ACROSS_PROCESSES)}"
        )
    size = options.microbatch_size
    expect("microbatch_size of at least 1", size, size is None or size >= 1)
    return STRATEGIES[name](loss_fn, options)


def copy_to_device(tree: PyTree) -> PyTree:
    """Copy every array to the default device: donation must not delete the caller's."""
    return jax.tree.map(jnp.copy, jax.device_put(tree))


def _on_one_device(share: ShareFn, options: Options) -> Strategy:
    return Strategy(
        value_and_grad=whole(_in_microbatches(share, options)),
        put_state=copy_to_device,
        put_batch=jax.device_put,
        run="loop",
    )


def _on_mesh(
    share: ShareFn,
    options: Options,
    device_map: DeviceMap,
) -> Strategy:
    mesh = _mesh(options)
    return Strategy(
        value_and_grad=device_map(_in_microbatches(share, options), mesh),
        put_state=parallel.replicate(mesh),
        put_batch=parallel.split(mesh),
        run="loop",
    )


def _mesh(options: Options) -> Mesh:
    return options.mesh or parallel.make_mesh()


def _in_microbatches(share: ShareFn, options: Options) -> ShareFn:
    if options.microbatch_size is None:
        return share
    return microbatched(share, size=options.microbatch_size)
