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

from cnnjax.base.arguments import function, known_name
from cnnjax.base.errors import InputError, expect
from cnnjax.devices.partitioning import MODEL, check_cuts
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
from cnnjax.strategies.options import (
    NO_OPTIONS,
    Builder,
    Options,
    checked,
    mesh_of,
)
from cnnjax.types import LossFn, Params, Strategy

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
        InputError: a name that is not in `STRATEGIES`, a loss that is no function,
            options that cannot be, a mesh with an axis "model" for a strategy that has
            no use for it, or several processes where the strategy runs in one.
    """
    name, options = known_name("strategy", name, STRATEGIES), checked(options)
    function("loss_fn", loss_fn)
    cut_among = 1 if options.mesh is None else options.mesh.shape[MODEL]
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
    return STRATEGIES[name](loss_fn, options)


def check_division(
    name: str, options: Options, *, params: Params, batch_size: int
) -> None:
    """Refuse before anything is compiled what a strategy would refuse when traced.

    Raises:
        InputError: a microbatch that is larger than what it is taken from, or an axis
            "model" that cuts none of the parameters.
    """
    if name not in DIVIDED:
        devices = 1
    elif name == "sharded":  # whose microbatches are of the whole batch
        devices = 1
        check_cuts(params, model_devices=mesh_of(options).shape[MODEL])
    else:
        devices = mesh_of(options).size
    part, size = -(-batch_size // devices), options.microbatch_size
    of = f"each device's part of {batch_size}" if devices > 1 else "the batch size"
    what = f"microbatch_size of at most {part}, {of}, for strategy {name!r}"
    expect(what, size, size is None or size <= part)
