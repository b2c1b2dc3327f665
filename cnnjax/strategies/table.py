"""The table of strategies. Adding one is one function and one row.

A builder takes the loss of one example and `Options`, and returns a `Strategy`. The
laws in `tests/test_strategy_laws.py` go through this table, so a new row is tested at
once. Only what returns the mean gradient is a row.

Two choices make a row: the gradient rule (the batch at once, one example after another,
a gradient for each example, a product for each layer) and the device map (none, sharded
jit, shard_map, pmap).
"""

from __future__ import annotations

import jax

from cnnjax import partitioning
from cnnjax.errors import InputError, expect, unknown_name
from cnnjax.strategies.many_devices import (
    pmap,
    pmap_vmap,
    shard_map,
    shard_map_vmap,
    sharded,
)
from cnnjax.strategies.one_device import (
    eager,
    factored,
    factored_norms,
    jit,
    serial,
    vmap,
    vmap_norms,
)
from cnnjax.strategies.options import NO_OPTIONS, Builder, Options
from cnnjax.types import LossFn, Strategy

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
    "factored": factored,
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
