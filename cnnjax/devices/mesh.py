"""The mesh, and where arrays are placed on it.

This is the only module that places arrays. A batch is divided along the mesh's axis
"data". Parameters, optimizer state and the examples in memory are on every device,
unless the axis "model" has more than one: `partitioning` then partitions the dense
kernels along it. The mesh can span several processes, each of which provides the data
of its own devices only.
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
    """Make a mesh of the first `num_devices` devices of each process; None: of all.

    The mesh has two axes, "data" and "model"; the second has `model_devices` devices,
    usually 1.

    Raises:
        InputError: a process has fewer devices than `num_devices`, or than another
            process; or the devices cannot be divided by `model_devices`.
    """
    processes = [jax.local_devices(index) for index in range(jax.process_count())]
    here = processes[jax.process_index()]
    count = len(here) if num_devices is None else num_devices
    fewest = min(map(len, processes))
    platform = here[0].platform
    hint = " (see --num_devices)" if platform == "cpu" else ""
    each = " of every process" if len(processes) > 1 else ""
    what = f"num_devices from 1 to the {fewest} available {platform} devices{each}"
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
    """Build `put_state`: partition by the rules along "model", copy along "data".

    If "model" has one device, everything is on every device.
    """

    def put_state(tree: PyTree) -> PyTree:
        copied = jax.tree.map(jnp.copy, tree)
        return jax.tree.map(place, copied, shardings(copied, mesh))

    return put_state


def split(mesh: Mesh) -> Callable[[Batch], Batch]:
    """Build `put_batch`: each device holds an equal part of the examples.

    A batch that cannot be divided evenly is padded with copies at weight 0, which have
    no effect. It works on arrays and, in a compiled loop, on tracers.
    """
    in_parts = NamedSharding(mesh, P(AXIS))

    def put_batch(batch: Batch) -> Batch:
        padded = padding.pad_batch(padding.check_batch(batch), mesh.shape[AXIS])
        return jax.tree.map(lambda a: place(a, in_parts), padded)

    return put_batch


def place(array: Array | np.ndarray, sharding: NamedSharding) -> Array:
    """Place an array as the sharding says, or a traced array when it is computed.

    If the mesh spans processes, each process must have the same values. It provides
    only the pieces of its own devices: nothing is sent to another process.

    Raises:
        InputError: the caller has set another mesh than the sharding's.
    """
    check_mesh(sharding.mesh)
    if isinstance(array, Tracer):
        # Not device_put, which divides nothing while it is traced.
        return lax.with_sharding_constraint(array, sharding)
    spread = isinstance(array, jax.Array) and not array.is_fully_addressable
    if sharding.is_fully_addressable or spread:
        return jax.device_put(array, sharding)
    # Not device_put: the processes would first compare the entire array.
    typed_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    values = array if typed_key else np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, values.__getitem__)


def to_host(tree: PyTree) -> PyTree:
    """Gather arrays from all devices into complete NumPy arrays.

    If some of the devices belong to other processes, every process must call it.
    """

    def fetch(leaf: Array | np.ndarray) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(fetch, tree)


def shardings(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return the sharding of each leaf by the partition rules."""
    specs = partition_specs(tree, model_devices=mesh.shape[MODEL])
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
