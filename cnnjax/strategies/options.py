"""What a row is built from: its options, and the two places that it can run in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jaxtyping import PyTree

from cnnjax.base.arguments import at_least, instance_of, optional
from cnnjax.base.errors import expect
from cnnjax.base.settings import check_mesh
from cnnjax.devices import parallel
from cnnjax.devices.partitioning import MODEL
from cnnjax.gradients import factors, padding
from cnnjax.gradients.microbatches import NEIGHBOURS, Cut, microbatched
from cnnjax.gradients.shares import ShareFn, whole
from cnnjax.types import Batch, Metrics, Params, Strategy, ValueAndGradFn

DeviceMap = Callable[[ShareFn, Mesh], ValueAndGradFn]


class Options(NamedTuple):
    """What the rows can be told, besides the loss."""

    mesh: Mesh | None = None  # None: all devices
    # Examples taken at a time, by each device (`sharded`: by all); None: all at once.
    microbatch_size: int | None = None
    # What `factored` and `factored_norms` are made from: see `factors.make_factors_fn`.
    factors_fn: factors.FactorsFn | None = None
    # How the two rows over `shard_map` run a share; a fault puts another in its place.
    device_map: DeviceMap = parallel.over_shard_map


NO_OPTIONS = Options()
Builder = Callable[..., Strategy]  # (loss_fn, options)


def checked(options: Options) -> Options:
    """Return the options with their numbers plain.

    Raises:
        InputError: no options, a mesh of other axes than those of `parallel.make_mesh`,
            or a microbatch of no size.
    """
    instance_of(Options)("options", options)
    mesh, size = options.mesh, options.microbatch_size
    axes = mesh if mesh is None else getattr(mesh, "axis_names", mesh)
    ours = mesh is None or axes == (parallel.AXIS, MODEL)
    expect("a mesh as parallel.make_mesh makes it", axes, ours)
    if mesh is not None:
        what = "a mesh of devices, as parallel.make_mesh makes it"
        expect(what, mesh, isinstance(mesh, Mesh))
        what = "a mesh as parallel.make_mesh makes it, with axes of AxisType.Auto"
        expect(what, mesh.axis_types, set(mesh.axis_types) == {AxisType.Auto})
    size = optional(at_least(1))("microbatch_size", size)
    return options._replace(microbatch_size=size)


def copy_to_device(tree: PyTree) -> PyTree:
    """Copy every array to the default device: donation must not delete the caller's."""
    return jax.tree.map(jnp.copy, jax.device_put(tree))


def put_on_device(batch: Batch) -> Batch:
    """Put a batch on the default device.

    Raises:
        InputError: a batch that `padding.check_batch` refuses.
    """
    return jax.device_put(padding.check_batch(batch))


def on_one_device(share: ShareFn, options: Options) -> Strategy:
    """Run a gradient rule on one device.

    Raises:
        InputError: options that `checked` refuses.
    """
    return Strategy(
        value_and_grad=whole(_in_microbatches(share, options, NEIGHBOURS)),
        put_state=copy_to_device,
        put_batch=put_on_device,
        run="loop",
    )


def on_mesh(
    share: ShareFn,
    options: Options,
    device_map: DeviceMap,
    *,
    cut: Cut = NEIGHBOURS,
) -> Strategy:
    """Run a gradient rule on the devices of a mesh, as the device map divides it.

    Raises:
        InputError: options that `checked` refuses.
    """
    mesh = mesh_of(options)
    divided = device_map(_in_microbatches(share, options, cut), mesh)

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        check_mesh(mesh)
        return divided(params, batch)

    return Strategy(
        value_and_grad=value_and_grad,
        put_state=parallel.replicate(mesh),
        put_batch=parallel.split(mesh),
        run="loop",
    )


def mesh_of(options: Options) -> Mesh:
    """Return the mesh that is asked for: without one, all devices."""
    return checked(options).mesh or parallel.make_mesh()


def _in_microbatches(share: ShareFn, options: Options, cut: Cut) -> ShareFn:
    size = checked(options).microbatch_size
    return share if size is None else microbatched(share, size=size, cut=cut)
