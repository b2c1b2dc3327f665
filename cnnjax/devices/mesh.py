"""The mesh, and who holds what.

The only module that touches devices. A batch is split over the mesh's axis "data".
Parameters, optimizer state and the resident examples are on every device, unless the
axis "model" has more than one: along that, `partitioning` cuts the dense kernels. The
mesh may span several processes: each lays out what its own devices hold, and nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PyTree

from cnnjax.base.arguments import whole_number
from cnnjax.base.errors import expect
from cnnjax.base.settings import check_mesh
from cnnjax.devices.partitioning import MODEL, partition_specs
from cnnjax.gradients import padding
from cnnjax.types import Batch

AXIS = "data"


def make_mesh(num_devices: int | None = None, *, model_devices: int = 1) -> Mesh:
    """Lay the first `num_devices` devices out, in rows of `model_devices`; None: all.

    Of several processes, the first `num_devices` of each. The mesh has two axes, "data"
    and "model", of which the second is mostly 1.

    Raises:
        InputError: a process has fewer devices than are asked for, or than another; or
            they do not make whole rows.
    """
    processes = [jax.local_devices(index) for index in range(jax.process_count())]
    here = processes[jax.process_index()]
    count = len(here) if num_devices is None else num_devices
    fewest = min(map(len, processes))
    platform = here[0].platform
    hint = " (see --num_devices)" if platform == "cpu" else ""
    each = " of every process" if len(processes) > 1 else ""
    what = f"num_devices from 1 to the {fewest} {platform} devices{each} that are here"
    count = whole_number(what + hint, count, least=1, most=fewest)
    devices = [device for process in processes for device in process[:count]]
    what = f"model_devices to divide the {len(devices)} devices"
    model_devices = whole_number(what, model_devices, least=1)
    expect(what, model_devices, len(devices) % model_devices == 0)
    return jax.make_mesh(
        (len(devices) // model_devices, model_devices),
        (AXIS, MODEL),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )


def replicate(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    """Build `put_state`: copy every array to every device of the mesh."""
    everywhere = NamedSharding(mesh, P())

    def put_state(tree: PyTree) -> PyTree:
        # A copy first: device_put may alias, and donation would delete the caller's.
        return jax.tree.map(lambda a: place(jnp.copy(a), everywhere), tree)

    return put_state


def partition(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    """Build `put_state` by the partition rules: cut along "model", copied along "data".

    Where "model" has one device, everything is on every device.
    """

    def put_state(tree: PyTree) -> PyTree:
        copied = jax.tree.map(jnp.copy, tree)
        return jax.tree.map(place, copied, shardings(copied, mesh))

    return put_state


def split(mesh: Mesh) -> Callable[[Batch], Batch]:
    """Build `put_batch`: each device holds its equal part of the examples.

    A batch that does not divide is filled up with copies at weight 0, which count for
    nothing. Works on arrays and, in a compiled loop, on what is traced.
    """
    in_parts = NamedSharding(mesh, P(AXIS))

    def put_batch(batch: Batch) -> Batch:
        padded = padding.pad_batch(padding.check_batch(batch), mesh.shape[AXIS])
        return jax.tree.map(lambda a: place(a, in_parts), padded)

    return put_batch


def place(array: Array | np.ndarray, sharding: NamedSharding) -> Array:
    """Put an array where the sharding says; a traced one, when it is computed.

    Where the mesh spans processes, each must hold the same values. It hands over only
    the pieces of its own devices: nothing is sent to another process.

    Raises:
        InputError: another mesh than the sharding's is set.
    """
    check_mesh(sharding.mesh)
    if isinstance(array, Tracer):
        # Not device_put, which would not divide anything: XLA never hears of it.
        return lax.with_sharding_constraint(array, sharding)
    spread = isinstance(array, jax.Array) and not array.is_fully_addressable
    if sharding.is_fully_addressable or spread:
        return jax.device_put(array, sharding)
    # Not device_put: the processes would compare the whole of the array first.
    typed_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    values = array if typed_key else np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, values.__getitem__)


def to_host(tree: PyTree) -> PyTree:
    """Return whole NumPy arrays, wherever their pieces lie.

    Where they lie in other processes, every process must call it.
    """

    def fetch(leaf: Array | np.ndarray) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(fetch, tree)


def shardings(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return where the partition rules put each leaf."""
    specs = partition_specs(tree, model_devices=mesh.shape[MODEL])
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
