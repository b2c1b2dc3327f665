"""Faults of the body that each device runs, and of how the results are combined.

A wrong body replaces `maps.device_body`, with the strategy's own gradient rule: the
batch at once, or per-example gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from cnnjax import gradients
from cnnjax.devices import maps, mesh
from cnnjax.devices.mesh import AXIS
from cnnjax.faults.fault import Builder, Fault
from cnnjax.faults.needs import Needs
from cnnjax.gradients import padding, rules
from cnnjax.gradients.objective import Objective
from cnnjax.gradients.shares import ShareFn
from cnnjax.strategies import NO_OPTIONS, STRATEGIES, Options, Row, mesh_of, names_of
from cnnjax.types import Batch, Metrics, Params, Strategy, ValueAndGradFn


def of_device_map(
    wrong: Callable[[ShareFn, Mesh], ValueAndGradFn],
) -> Callable[[Row], Row]:
    """Build the `corrupt` that replaces `over_shard_map`."""

    def corrupt(row: Row) -> Row:
        return row._replace(device_map=replace(row.device_map, over=wrong))

    return corrupt


def of_body(
    body: Callable[[ShareFn], ValueAndGradFn],
) -> Callable[[Row], Row]:
    """Build the `corrupt` that replaces `device_body`."""

    def wrong(share: ShareFn, mesh: Mesh) -> ValueAndGradFn:
        # Unchecked, because JAX's own check would refuse some of these faults.
        return _by_hand(body(share), mesh, check_vma=False)

    return of_device_map(wrong)


def mean_of_local_means(share: ShareFn) -> ValueAndGradFn:
    """Take the mean of each part, then the mean of these means."""
    local = gradients.value_and_grad_of(share)
    return lambda params, part: lax.pmean(local(params, part), AXIS)


def sum_of_local_means(share: ShareFn) -> ValueAndGradFn:
    """Take the mean of each part, then the sum of these means."""
    local = gradients.value_and_grad_of(share)
    return lambda params, part: lax.psum(local(params, part), AXIS)


def everybody_takes_the_first_part(share: ShareFn) -> ValueAndGradFn:
    """Let every device use the first device's examples, with its own keys."""
    right = maps.device_body(share)

    def body(params: Params, part: Batch) -> tuple[Metrics, Params]:
        gathered = lax.all_gather(part._replace(keys=None), AXIS)
        first = jax.tree.map(lambda a: a[0], gathered)
        return right(params, first._replace(keys=part.keys))

    return body


def stale_parameters_on_one_device(share: ShareFn) -> ValueAndGradFn:
    """Let the first device use other parameters than the rest."""
    right = maps.device_body(share)

    def body(params: Params, part: Batch) -> tuple[Metrics, Params]:
        stale = jnp.where(lax.axis_index(AXIS) == 0, 0.9, 1.0)
        return right(jax.tree.map(lambda p: p * stale.astype(p.dtype), params), part)

    return body


def n_times_too_large(share: ShareFn, mesh: Mesh) -> ValueAndGradFn:
    """Sum gradients with respect to replicated parameters, which are summed already."""

    def body(params: Params, part: Batch) -> tuple[Metrics, Params]:
        total = lax.psum(padding.total_weight(part), AXIS)
        means, grads, _ = share(params, part, total)
        grads = lax.pcast(grads, AXIS, to="varying")
        means, grads = lax.psum((means, grads), AXIS)
        return Metrics(means, total), grads

    return _by_hand(body, mesh, check_vma=True)


def batch_on_every_device(builder: Builder) -> Builder:
    """Copy the batch to every device, so that each computes the entire gradient."""

    def build(objective: Objective, options: Options = NO_OPTIONS) -> Strategy:
        put_batch = mesh.replicate(mesh_of(options))
        return builder(objective, options)._replace(put_batch=put_batch)

    return build


def _by_hand(body: ValueAndGradFn, mesh: Mesh, *, check_vma: bool) -> ValueAndGradFn:
    return jax.shard_map(
        body,
        mesh=mesh,
        in_specs=(P(), P(AXIS)),
        out_specs=P(),
        check_vma=check_vma,
    )


# The strategies that run `device_body` on each device by `over_shard_map`.
BY_SHARD_MAP = names_of(by_hand=True, across_processes=True)
_TWO_DEVICES = Needs(strategies=BY_SHARD_MAP, num_devices=2)
# Those that differentiate with respect to the parameters; the factored rule does not.
_BY_PARAMETERS = Needs(
    strategies=tuple(
        name for name in BY_SHARD_MAP if STRATEGIES[name].rule is not rules.factored
    ),
    num_devices=2,
)

FAULTS = (
    Fault(
        name="n_times_too_large",
        summary="Gradients are N devices times too large, and the loss is right.",
        seen="psum, or pmean of local means, after a gradient with respect to "
        "replicated parameters in shard_map: the most common fault in public code; "
        "Adam hides it.",
        place="device map",
        needs=_BY_PARAMETERS,
        corrupt=of_device_map(n_times_too_large),
        replaces=("device map",),
    ),
    Fault(
        name="missing_psum",
        summary="Each device keeps its own gradient, and the first device's is used.",
        seen="shard_map with check_vma=False, or pmap, with a missing collective.",
        place="device map",
        needs=_TWO_DEVICES,
        corrupt=of_body(gradients.value_and_grad_of),
        replaces=("device map",),
    ),
    Fault(
        name="mean_of_local_means",
        summary="The devices' means are averaged, whatever the weight of each part.",
        seen="pmean of gradients: wrong if the parts differ in weight, and NaN if one "
        "is all padding.",
        place="device map",
        needs=_TWO_DEVICES,
        corrupt=of_body(mean_of_local_means),
        parts=("padding",),
        replaces=("device map",),
    ),
    Fault(
        name="sum_of_local_means",
        summary="The devices' means are added up, not averaged.",
        seen="psum instead of pmean.",
        place="device map",
        needs=_TWO_DEVICES,
        corrupt=of_body(sum_of_local_means),
        replaces=("device map",),
    ),
    Fault(
        name="everybody_takes_the_first_part",
        summary="Every device trains on the first device's examples.",
        seen="Processes that all read the data from the start.",
        place="device map",
        needs=_TWO_DEVICES,
        corrupt=of_body(everybody_takes_the_first_part),
        replaces=("device map",),
    ),
    Fault(
        name="stale_parameters_on_one_device",
        summary="One device uses other parameters than the rest.",
        seen="A copy that is not updated, or drawn from another seed; here the first "
        "device's parameters are 0.9 times as large.",
        place="device map",
        needs=_TWO_DEVICES,
        corrupt=of_body(stale_parameters_on_one_device),
        replaces=("device map",),
    ),
    Fault(
        name="batch_on_every_device",
        summary="The work is not divided: each device does all of it, and the gradient "
        "is right.",
        seen="A batch placed with P() instead of P('data'), or replicated indices.",
        needs=Needs(strategies=("sharded",), num_devices=2),
        corrupt=batch_on_every_device,
        replaces=("placement of batches",),
    ),
)
