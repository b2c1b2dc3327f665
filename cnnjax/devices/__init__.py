"""MANY devices: the mesh, where arrays are placed, and the body each device runs."""

from cnnjax.devices.maps import (
    ONE_DEVICE,
    PMAP,
    SHARD_MAP,
    SHARDED,
    UNCOMPILED,
    DeviceMap,
    device_body,
    over_pmap,
    over_shard_map,
    over_sharded_jit,
)
from cnnjax.devices.mesh import (
    AXIS,
    make_mesh,
    partition,
    place,
    replicate,
    split,
    to_host,
)

__all__ = [
    "AXIS",
    "ONE_DEVICE",
    "PMAP",
    "SHARDED",
    "SHARD_MAP",
    "UNCOMPILED",
    "DeviceMap",
    "device_body",
    "make_mesh",
    "over_pmap",
    "over_shard_map",
    "over_sharded_jit",
    "partition",
    "place",
    "replicate",
    "split",
    "to_host",
]
