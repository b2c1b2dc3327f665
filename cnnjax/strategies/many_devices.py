"""The rows that divide a batch over the devices of a mesh."""

from __future__ import annotations

from cnnjax.devices import parallel
from cnnjax.gradients.microbatches import DEALT
from cnnjax.gradients.per_example import example_share
from cnnjax.gradients.shares import batch_share
from cnnjax.strategies.options import NO_OPTIONS, Options, mesh_of, on_mesh
from cnnjax.types import LossFn, Strategy


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
    divided = on_mesh(
        batch_share(loss_fn), options, parallel.over_sharded_jit, cut=DEALT
    )
    return divided._replace(put_state=parallel.partition(mesh_of(options)))


def shard_map(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Write what each device does with its part, by `shard_map`.

    Where do the arrays live? The batch in parts on the devices, all else on each. Who
    takes the mean? Each device its share of the global mean; the shares are added. What
    is communicated? A psum of the weights, one of gradients and metrics. When is it not
    valid? Always valid; see `parallel.device_body` for what makes it so.
    """
    return on_mesh(batch_share(loss_fn), options, options.device_map)


def shard_map_vmap(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the gradients of each device's own examples, within `shard_map`.

    Where do the arrays live? The batch in parts on the devices, all else on each. Who
    takes the mean? Each device its share of the global mean; the shares are added. What
    is communicated? A psum of the weights, one of gradients and metrics; the rows stay
    where they are. When is it not valid? Always valid.
    """
    return on_mesh(example_share(loss_fn), options, options.device_map)


def pmap(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Write what each device does with its part, by `pmap`: the legacy way.

    Where do the arrays live? The batch in parts on the devices, all else on each. Who
    takes the mean? Each device its share of the global mean; the shares are added. What
    is communicated? A psum of the weights, one of gradients and metrics. When is it not
    valid? Always valid, and in maintenance mode: since JAX 0.8 it is a `shard_map`.
    """
    return on_mesh(batch_share(loss_fn), options, parallel.over_pmap)


def pmap_vmap(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
    """Form the gradients of each device's own examples, within `pmap`.

    Where do the arrays live? The batch in parts on the devices, all else on each. Who
    takes the mean? Each device its share of the global mean; the shares are added. What
    is communicated? A psum of the weights, one of gradients and metrics; the rows stay
    where they are. When is it not valid? Always valid; legacy, as `pmap`.
    """
    return on_mesh(example_share(loss_fn), options, parallel.over_pmap)
