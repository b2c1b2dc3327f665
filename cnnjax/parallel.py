"""Devices: the mesh, who holds what, and the ONE body that each device runs.

The only module that touches devices. A batch is split over the mesh's one axis, "data";
parameters, optimizer state and the resident examples are on every device.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from cnnjax.errors import InputError
from cnnjax.gradients import ShareFn, total_weight
from cnnjax.microbatches import pad_batch
from cnnjax.types import Batch, Metrics, Params, ValueAndGradFn

AXIS = "data"


def make_mesh(num_devices: int | None = None) -> Mesh:
    """Lay the first `num_devices` devices out along the axis "data"; None: all.

    Raises:
        InputError: fewer devices are there than are asked for.
    """
    available = jax.devices()
    count = len(available) if num_devices is None else num_devices
    if not 1 <= count <= len(available):
        platform = available[0].platform
        hint = " (see --num_devices)" if platform == "cpu" else ""
        raise InputError(
            f"expected num_devices from 1 to the {len(available)} {platform} devices "
            f"that are here{hint}, got {count}"
        )
    return jax.make_mesh(
        (count,), (AXIS,), axis_types=(AxisType.Auto,), devices=available[:count]
    )


def replicate(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    """Build `put_state`: copy every array to every device of the mesh."""
    everywhere = NamedSharding(mesh, P())

    def put_state(tree: PyTree) -> PyTree:
        # A copy first: device_put may alias, and donation would delete the caller's.
        return jax.device_put(jax.tree.map(jnp.copy, tree), everywhere)

    return put_state


def split(mesh: Mesh) -> Callable[[Batch], Batch]:
    """Build `put_batch`: each device holds its equal part of the examples.

    A batch that does not divide is filled up with copies at weight 0, which count for
    nothing. Works on arrays and, in a compiled loop, on what is traced.
    """
    in_parts = NamedSharding(mesh, P(AXIS))

    def put_batch(batch: Batch) -> Batch:
        return jax.device_put(pad_batch(batch, mesh.size), in_parts)

    return put_batch


def device_body(share: ShareFn) -> ValueAndGradFn:
    """Build what each device runs on its part of the batch; `shard_map`'s and `pmap`'s.

    1. Mark the parameters as different on each device. They are equal, but a gradient
       with respect to equal ones is summed over the devices already, and the sum below
       would then make it N times too large.
    2. Agree on the weight of the whole batch: n = psum(local weight).
    3. Take the share of the local examples in the mean over n.
    4. Add the shares up: psum. Nothing is averaged: a mean of local means is wrong
       where the weights differ, and NaN where a part is all padding.
    """

    def value_and_grad(params: Params, part: Batch) -> tuple[Metrics, Params]:
        params = lax.pcast(params, AXIS, to="varying")
        total = lax.psum(total_weight(part), AXIS)
        means, grads, _ = share(params, part, total)
        means, grads = lax.psum((means, grads), AXIS)
        return Metrics(means, total), grads

    return value_and_grad


def over_shard_map(share: ShareFn, mesh: Mesh) -> ValueAndGradFn:
    """Run the body on each device by `shard_map`."""
    return jax.shard_map(
        device_body(share), mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P()
    )


def over_pmap(share: ShareFn, mesh: Mesh) -> ValueAndGradFn:
    """Run the body on each device by `pmap`, which wants parts as a leading axis."""
    mapped = jax.pmap(
        device_body(share),
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,  # pyright: ignore[reportArgumentType]
        devices=list(mesh.devices.flat),
    )

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        parts = jax.tree.map(
            lambda a: a.reshape(mesh.size, -1, *a.shape[1:]),
            pad_batch(batch, mesh.size),
        )
        return mapped(params, parts)

    return value_and_grad
