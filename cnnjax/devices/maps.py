"""Device maps: how a gradient rule runs on one or many devices, with ONE body for each.

This is the only module that divides work. The gradient rules do not know about devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from cnnjax.base.settings import check_mesh
from cnnjax.base.trees import typed_like, widen
from cnnjax.devices.mesh import AXIS, partition, replicate, shardings, split
from cnnjax.devices.partitioning import MODEL, check_cuts
from cnnjax.gradients import padding
from cnnjax.gradients.microbatches import CONTIGUOUS, STRIDED, Grouping
from cnnjax.gradients.shares import ShareFn, canonical, ready, value_and_grad_of
from cnnjax.models.contract import alone, check_params
from cnnjax.types import Batch, Metrics, Params, ValueAndGradFn


def device_body(share: ShareFn) -> ValueAndGradFn:
    """Build the function that each device runs on its part, in `shard_map` and `pmap`.

    1. Mark the parameters as different on each device (they are equal). A gradient with
       respect to parameters marked as equal is already summed over the devices, and the
       sum below would then make it N times too large.
    2. Compute the weight of the entire batch: n = psum(local weight).
    3. Compute the share of the local examples in the mean over n.
    4. Add the shares up with psum, in at least float32. Nothing is averaged: a mean of
       local means is wrong if the weights differ, and NaN if a part is all padding.
    """

    def value_and_grad(params: Params, part: Batch) -> tuple[Metrics, Params]:
        check_params(params)
        params = lax.pcast(params, AXIS, to="varying")
        part = canonical(part)
        total = lax.psum(padding.total_weight(part), AXIS)
        means, grads, _ = share(params, part, padding.nonzero(total))
        means, grads = lax.psum(jax.tree.map(widen, (means, grads)), AXIS)
        return Metrics(means, total), typed_like(grads, params)

    return value_and_grad


def over_sharded_jit(share: ShareFn, mesh: Mesh) -> ValueAndGradFn:
    """Let the compiler divide the work; gradients are placed as the parameters are.

    Raises:
        InputError: while it is traced, an axis "model" along which no parameter can be
            partitioned.
    """
    global_value_and_grad = value_and_grad_of(share)

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        check_mesh(mesh)
        check_cuts(params, model_devices=mesh.shape[MODEL])
        metrics, grads = global_value_and_grad(params, batch)
        return metrics, lax.with_sharding_constraint(grads, shardings(grads, mesh))

    return value_and_grad


def over_shard_map(share: ShareFn, mesh: Mesh) -> ValueAndGradFn:
    """Run the body on each device by `shard_map`, which needs parts of equal size."""
    mapped = jax.shard_map(
        device_body(share), mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P()
    )

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        check_mesh(mesh)
        padded, unit = ready(batch, multiple=mesh.shape[AXIS])
        with alone():  # inside the map, a loss could use the axis without an error
            jax.eval_shape(share, params, padded, padded.weights[0])
        metrics, grads = mapped(params, padded)
        return metrics._replace(weight=metrics.weight * unit), grads

    return value_and_grad


def over_pmap(share: ShareFn, mesh: Mesh) -> ValueAndGradFn:
    """Run the body on each device by `pmap`, which needs an axis of parts in front."""
    mapped = jax.pmap(
        device_body(share),
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,  # pyright: ignore[reportArgumentType]
        devices=list(mesh.devices.flat),
    )

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        check_mesh(mesh)
        check_mesh(None)  # pmap makes a mesh of its own
        padded, unit = ready(batch, multiple=mesh.size)
        with alone():
            jax.eval_shape(share, params, padded, padded.weights[0])
        parts = jax.tree.map(lambda a: a.reshape(mesh.size, -1, *a.shape[1:]), padded)
        metrics, grads = mapped(params, parts)
        return metrics._replace(weight=metrics.weight * unit), grads

    return value_and_grad


def copy_to_device(tree: PyTree) -> PyTree:
    """Copy all arrays to the default device: donation must not delete the caller's."""
    return jax.tree.map(jnp.copy, jax.device_put(tree))


def put_on_device(batch: Batch) -> Batch:
    """Put a batch on the default device.

    Raises:
        InputError: a batch that `padding.check_batch` refuses.
    """
    return jax.device_put(padding.check_batch(batch))


@dataclass(frozen=True, kw_only=True)
class DeviceMap:
    """How a gradient rule runs: on one device, or divided over those of a mesh."""

    told: str  # description: where the arrays live, and what is communicated
    # over(share, mesh) -> value_and_grad of the global batch; None: on one device.
    over: Callable[[ShareFn, Mesh], ValueAndGradFn] | None = None
    # True: each device runs `device_body` on its own examples. False: the compiler
    # divides the work, and a microbatch is taken from the global batch.
    by_hand: bool = False
    across_processes: bool = False  # whether it can run over several processes
    cuts_kernels: bool = False  # partitions kernels along the mesh's axis "model"
    run: Literal["eager", "loop"] = "loop"

    @property
    def divides(self) -> bool:
        """Whether it divides a batch over the devices of a mesh."""
        return self.over is not None

    @property
    def grouping(self) -> Grouping:
        """Return how a program divides its examples into microbatches."""
        return STRIDED if self.divides and not self.by_hand else CONTIGUOUS

    def put_state(self, mesh: Mesh | None) -> Callable[[PyTree], PyTree]:
        """Return the function that places parameters, optimizer state and examples."""
        if mesh is None:
            return copy_to_device
        return partition(mesh) if self.cuts_kernels else replicate(mesh)

    def put_batch(self, mesh: Mesh | None) -> Callable[[Batch], Batch]:
        """Return the function that places a batch."""
        return put_on_device if mesh is None else split(mesh)

    def value_and_grad(self, share: ShareFn, mesh: Mesh | None) -> ValueAndGradFn:
        """Build the `value_and_grad` of a share that runs on these devices."""
        if self.over is None or mesh is None:
            return value_and_grad_of(share)
        return self.over(share, mesh)


ONE_DEVICE = DeviceMap(
    told="""Where do the arrays live? On one device; the compiler splits each operation
    over its cores. What is communicated? Nothing."""
)
UNCOMPILED = DeviceMap(
    told="""Where do the arrays live? On one device. What is communicated? Nothing. Each
    operation is dispatched from Python, which is slow, but useful in a debugger.
    """,
    run="eager",
)
SHARDED = DeviceMap(
    told="""Where do the arrays live? The batch is divided along the mesh's axis "data";
    everything else is on each device, except that dense kernels are partitioned along
    "model" if that axis has several devices. What is communicated? One all-reduce of
    the gradients, inserted by the compiler; along "model" activations, too. Not for
    per-example gradients: XLA partitions the convolutions of `vmap(grad)` wrongly and
    silently (jax-ml/jax issue 32157).""",
    over=over_sharded_jit,
    across_processes=True,
    cuts_kernels=True,
)
SHARD_MAP = DeviceMap(
    told="""Where do the arrays live? The batch is divided over the devices; everything
    else is on each device. What is communicated? One psum of the weights, and one of
    gradients and metrics; per-example gradients stay on their device. `device_body`
    explains why this is correct.""",
    over=over_shard_map,
    by_hand=True,
    across_processes=True,
)
PMAP = DeviceMap(
    told="""Where do the arrays live? The batch is divided over the devices; everything
    else is on each device. What is communicated? One psum of the weights, and one of
    gradients and metrics. In maintenance mode: since JAX 0.8, pmap is a `shard_map`.
    """,
    over=over_pmap,
    by_hand=True,
)
