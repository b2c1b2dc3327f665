"""Device maps: how a rule is brought to many devices, and the ONE body of each.

The only module that divides work. The rules know nothing of it.
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
from cnnjax.gradients.microbatches import DEALT, NEIGHBOURS, Cut
from cnnjax.gradients.shares import ShareFn, canonical, ready, whole
from cnnjax.models.contract import alone, check_params
from cnnjax.types import Batch, Metrics, Params, ValueAndGradFn


def device_body(share: ShareFn) -> ValueAndGradFn:
    """Build what each device runs on its part of the batch; `shard_map`'s and `pmap`'s.

    1. Mark the parameters as different on each device. They are equal, but a gradient
       with respect to equal ones is summed over the devices already, and the sum below
       would then make it N times too large.
    2. Agree on the weight of the whole batch: n = psum(local weight).
    3. Take the share of the local examples in the mean over n.
    4. Add the shares up, in float32 at least: psum. Nothing is averaged: a mean of
       local means is wrong where the weights differ, and NaN where a part is all
       padding.
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
    """Leave the division to the compiler; gradients come out where parameters are.

    Raises:
        InputError: while it is traced, where "model" cuts none of the parameters.
    """
    global_value_and_grad = whole(share)

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        check_mesh(mesh)
        check_cuts(params, model_devices=mesh.shape[MODEL])
        metrics, grads = global_value_and_grad(params, batch)
        return metrics, lax.with_sharding_constraint(grads, shardings(grads, mesh))

    return value_and_grad


def over_shard_map(share: ShareFn, mesh: Mesh) -> ValueAndGradFn:
    """Run the body on each device by `shard_map`, which wants parts of equal size."""
    mapped = jax.shard_map(
        device_body(share), mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P()
    )

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        check_mesh(mesh)
        padded, unit = ready(batch, multiple=mesh.shape[AXIS])
        with alone():  # in the map, the size of the axis would be a number like others
            jax.eval_shape(share, params, padded, padded.weights[0])
        metrics, grads = mapped(params, padded)
        return metrics._replace(weight=metrics.weight * unit), grads

    return value_and_grad


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
    """Copy every array to the default device: donation must not delete the caller's."""
    return jax.tree.map(jnp.copy, jax.device_put(tree))


def put_on_device(batch: Batch) -> Batch:
    """Put a batch on the default device.

    Raises:
        InputError: a batch that `padding.check_batch` refuses.
    """
    return jax.device_put(padding.check_batch(batch))


@dataclass(frozen=True, kw_only=True)
class DeviceMap:
    """Where a gradient rule runs: on one device, or divided over those of a mesh."""

    told: str  # the answers: where the arrays live, and what is communicated
    # over(share, mesh) -> value_and_grad of the whole batch; None: one device has it.
    over: Callable[[ShareFn, Mesh], ValueAndGradFn] | None = None
    # Each device's own examples by its own program, `device_body`; else the compiler
    # divides, and a microbatch is of the whole batch.
    by_hand: bool = False
    across_processes: bool = False  # whether several may each have some of the devices
    cuts_kernels: bool = False  # along the mesh's axis "model"
    run: Literal["eager", "loop"] = "loop"

    @property
    def divides(self) -> bool:
        """Whether it divides a batch over the devices of a mesh."""
        return self.over is not None

    @property
    def cut(self) -> Cut:
        """Return how microbatches are taken from what a program has."""
        return DEALT if self.divides and not self.by_hand else NEIGHBOURS

    def put_state(self, mesh: Mesh | None) -> Callable[[PyTree], PyTree]:
        """Return what places parameters and all else that every device needs."""
        if mesh is None:
            return copy_to_device
        return partition(mesh) if self.cuts_kernels else replicate(mesh)

    def put_batch(self, mesh: Mesh | None) -> Callable[[Batch], Batch]:
        """Return what places a batch."""
        return put_on_device if mesh is None else split(mesh)

    def value_and_grad(self, share: ShareFn, mesh: Mesh | None) -> ValueAndGradFn:
        """Run a share on the devices; the mean comes out."""
        if self.over is None or mesh is None:
            return whole(share)
        return self.over(share, mesh)


ONE_DEVICE = DeviceMap(
    told="""Where do the arrays live? On one device, whose compiler splits each
    operation over its cores. What is communicated? Nothing."""
)
UNCOMPILED = DeviceMap(
    told="""Where do the arrays live? On one device. What is communicated? Nothing. Each
    operation is dispatched from Python: slow, and good to step through in a debugger.
    """,
    run="eager",
)
SHARDED = DeviceMap(
    told="""Where do the arrays live? The batch in parts along the mesh's axis "data",
    all else on each device; along "model", where that has more than one, the dense
    kernels in parts. What is communicated? One all-reduce of the gradients, put in by
    the compiler; along "model" activations, too. Not for the gradients of single
    examples: XLA partitions the convolutions of `vmap(grad)` wrongly and silently
    (jax-ml/jax issue 32157).""",
    over=over_sharded_jit,
    across_processes=True,
    cuts_kernels=True,
)
SHARD_MAP = DeviceMap(
    told="""Where do the arrays live? The batch in parts on the devices, all else on
    each. What is communicated? A psum of the weights, one of gradients and metrics;
    gradients of single examples stay where they are. See `device_body` for what makes
    it right.""",
    over=over_shard_map,
    by_hand=True,
    across_processes=True,
)
PMAP = DeviceMap(
    told="""Where do the arrays live? The batch in parts on the devices, all else on
    each. What is communicated? A psum of the weights, one of gradients and metrics.
    In maintenance mode: since JAX 0.8 it is a `shard_map`.""",
    over=over_pmap,
    by_hand=True,
)
