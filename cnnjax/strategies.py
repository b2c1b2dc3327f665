"""The table of strategies: gradient rule x device map.

A row of the table is called with an objective (or just the loss of one example) and
`Options`, and returns a `Strategy`: one way to compute the mean gradient of a batch.
All rows compute the same gradient: `tests/test_strategy_laws.py` checks every row
against the laws, so a new row is tested automatically. The third choice is the
reduction, applied to each per-example gradient before the sum: `Options.reduction`, for
any rule that forms per-example gradients.

Other modules never test for a strategy by name, only for the fields of its row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh

from cnnjax.base.arguments import at_least, instance_of, known_name, optional
from cnnjax.base.errors import InputError, expect
from cnnjax.devices.maps import (
    ONE_DEVICE,
    PMAP,
    SHARD_MAP,
    SHARDED,
    UNCOMPILED,
    DeviceMap,
)
from cnnjax.devices.mesh import AXIS, make_mesh
from cnnjax.devices.partitioning import MODEL, check_cuts
from cnnjax.gradients import reductions, rules
from cnnjax.gradients.microbatches import microbatched
from cnnjax.gradients.objective import Objective, as_objective
from cnnjax.gradients.reductions import Reduction
from cnnjax.types import LossFn, Params, Strategy


class Options(NamedTuple):
    """Options common to all strategies."""

    mesh: Mesh | None = None  # None: all devices
    # Examples per microbatch, on each device (`sharded`: on all); None: all at once.
    microbatch_size: int | None = None
    reduction: Reduction | None = None  # of per-example gradients; None: the row's own


NO_OPTIONS = Options()


class Row(NamedTuple):
    """An entry of the table: a gradient rule, a device map and a reduction."""

    rule: rules.Rule
    device_map: DeviceMap
    reduction: Reduction = reductions.mean

    def __call__(
        self, objective: Objective | LossFn, options: Options = NO_OPTIONS
    ) -> Strategy:
        """Build the strategy of this row.

        Raises:
            InputError: not an objective, options that `checked` refuses, or a reduction
                that the rule does not support.
        """
        options = checked(options)
        share = self.rule(as_objective(objective), options.reduction or self.reduction)
        at, mesh = self.device_map, None
        if at.divides:
            mesh = options.mesh or make_mesh()
        if options.microbatch_size is not None:
            share = microbatched(
                share, size=options.microbatch_size, grouping=at.grouping
            )
        return Strategy(
            value_and_grad=at.value_and_grad(share, mesh),
            put_state=at.put_state(mesh),
            put_batch=at.put_batch(mesh),
            run=at.run,
        )

    @property
    def divides(self) -> bool:
        """Whether it divides a batch over the devices of a mesh."""
        return self.device_map.divides

    @property
    def told(self) -> str:
        """Describe the row: the docstring of the rule, then that of the device map."""
        return " ".join(f"{self.rule.__doc__} {self.device_map.told}".split())


STRATEGIES: dict[str, Row] = {
    #                      gradient rule      device map  reduction
    "eager": Row(rules.batch, UNCOMPILED),
    "serial": Row(rules.serial, ONE_DEVICE),
    "jit": Row(rules.batch, ONE_DEVICE),
    "vmap": Row(rules.per_example, ONE_DEVICE),
    "vmap_norms": Row(rules.per_example, ONE_DEVICE, reductions.norms),
    "factored": Row(rules.factored, ONE_DEVICE),
    "factored_norms": Row(rules.factored, ONE_DEVICE, reductions.norms),
    "sharded": Row(rules.batch, SHARDED),
    "shard_map": Row(rules.batch, SHARD_MAP),
    "shard_map_vmap": Row(rules.per_example, SHARD_MAP),
    "shard_map_factored": Row(rules.factored, SHARD_MAP),
    "pmap": Row(rules.batch, PMAP),
    "pmap_vmap": Row(rules.per_example, PMAP),
}


def names_of(**facts: Any) -> tuple[str, ...]:
    """Return the names of the strategies whose device map has these field values."""
    return tuple(
        name
        for name, row in STRATEGIES.items()
        if all(getattr(row.device_map, fact) == value for fact, value in facts.items())
    )


def make_strategy(
    name: str, objective: Objective | LossFn, options: Options = NO_OPTIONS
) -> Strategy:
    """Build the named strategy for an objective, or for the loss of one example.

    Raises:
        InputError: a name that is not in `STRATEGIES`, neither an objective nor a
            function, options that `checked` refuses, a mesh with several devices along
            "model" for a strategy that does not partition kernels, or several processes
            for a strategy that runs in one.
    """
    row = STRATEGIES[known_name("strategy", name, STRATEGIES)]
    options, objective = checked(options), as_objective(objective)
    cut_among = 1 if options.mesh is None else options.mesh.shape[MODEL]
    if cut_among > 1 and not row.device_map.cuts_kernels:
        raise InputError(
            f"strategy {name!r} expected one device along the axis 'model', got "
            f"{cut_among}; only {_listed(cuts_kernels=True)} partitions kernels"
        )
    if jax.process_count() > 1 and not row.device_map.across_processes:
        raise InputError(
            f"strategy {name!r} expected one process, got {jax.process_count()}; use "
            f"{', '.join(names_of(across_processes=True))}"
        )
    return row(objective, options)


def checked(options: Options) -> Options:
    """Return the options, with the microbatch size as a Python int.

    Raises:
        InputError: not `Options`, a mesh with other axes than those of `make_mesh`, a
            microbatch size below 1, or a reduction that is not a `Reduction`.
    """
    instance_of(Options)("options", options)
    mesh, size = options.mesh, options.microbatch_size
    axes = mesh if mesh is None else getattr(mesh, "axis_names", mesh)
    ours = mesh is None or axes == (AXIS, MODEL)
    expect("a mesh made by devices.make_mesh", axes, ours)
    if mesh is not None:
        what = "a mesh of devices, made by devices.make_mesh"
        expect(what, mesh, isinstance(mesh, Mesh))
        what = "a mesh made by devices.make_mesh, with axes of AxisType.Auto"
        expect(what, mesh.axis_types, set(mesh.axis_types) == {AxisType.Auto})
    size = optional(at_least(1))("microbatch_size", size)
    what = "reduction (see gradients.reductions)"
    optional(instance_of(Reduction))(what, options.reduction)
    return options._replace(microbatch_size=size)


def mesh_of(options: Options) -> Mesh:
    """Return the mesh of the options; if there is none, a mesh of all devices."""
    return checked(options).mesh or make_mesh()


def check_division(
    name: str, options: Options, *, params: Params, batch_size: int
) -> None:
    """Refuse, before compilation, what the strategy would refuse while it is traced.

    Raises:
        InputError: a microbatch that is larger than a device's part of the batch, or an
            axis "model" along which no parameter can be partitioned.
    """
    at = STRATEGIES[name].device_map
    if at.cuts_kernels:
        check_cuts(params, model_devices=mesh_of(options).shape[MODEL])
    devices = mesh_of(options).size if at.by_hand else 1
    part, size = -(-batch_size // devices), options.microbatch_size
    of = f"each device's part of {batch_size}" if devices > 1 else "the batch size"
    what = f"microbatch_size of at most {part}, {of}, for strategy {name!r}"
    expect(what, size, size is None or size <= part)


def _listed(**facts: Any) -> str:
    return ", ".join(map(repr, names_of(**facts)))
