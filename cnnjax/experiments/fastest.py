"""The fastest form known, for a run that names no strategy: one table.

Nothing is tried here; `--strategy=auto` tries. The figures behind each entry are in
docs/measured.md.
"""

from __future__ import annotations

from typing import NamedTuple

import jax

from cnnjax.devices.maps import ONE_DEVICE, SHARD_MAP, SHARDED, DeviceMap
from cnnjax.devices.mesh import make_mesh
from cnnjax.devices.partitioning import MODEL
from cnnjax.experiments.recipe import FASTEST, Recipe
from cnnjax.gradients import reductions, rules
from cnnjax.models.stack import Conv, ModelConfig
from cnnjax.results.environment import cpu_model
from cnnjax.strategies import STRATEGIES, Options, mesh_of


class Known(NamedTuple):
    """The gradient rule that is known to be the fastest on a platform."""

    platform: str | None  # as JAX names it; None: any other
    processor: str | None  # part of the CPU's model, as the system names it; None: any
    layer: type | None  # the network has a layer of this kind; None: any network
    rule: rules.Rule
    microbatch_size: int | None  # examples per microbatch, at most; None: all at once
    where: str  # in words


# The first entry that fits. Relative to `jit`, examples/s in training, batch 64:
# adam_cosine_cnn on two cores of an AMD EPYC 1.33, of an Intel Xeon 1.13. Microbatches
# of 16 relative to 32: on the EPYC 0.99 (adam_cosine_cnn), 1.08 (sgd_dropout_cnn), 0.98
# (fast_mnist_cnn), with less memory; on the Xeon 0.78 (adam_cosine_cnn).
# On one NVIDIA H200, `factored` has 0.94 (batch 64) and 0.65 (batch 1,024).
KNOWN_FORMS = (
    Known("cpu", "Intel", Conv, rules.factored, 32, "for convolutions on an Intel CPU"),
    Known("cpu", None, Conv, rules.factored, 16, "for convolutions on a CPU"),
    Known("cpu", None, None, rules.batch, None, "without convolutions on a CPU"),
    Known(None, None, None, rules.batch, None, "on a {platform}"),
)


class Form(NamedTuple):
    """A strategy, the options it runs with, and why it was chosen."""

    strategy: str
    options: Options
    why: str | None = None  # None: it was named


def form_of(recipe: Recipe, batch_size: int, options: Options) -> Form:
    """Return the form that a recipe names, with these options; else the fastest."""
    if recipe.strategy != FASTEST:
        return Form(recipe.strategy, options)
    return fastest_form(recipe.model, batch_size, options)


def fastest_form(model: ModelConfig, batch_size: int, options: Options) -> Form:
    """Return the fastest form known for a network on the devices of the options.

    What the options fix stays: the mesh, a microbatch size, a reduction. Without a mesh
    the form runs on one device. A reduction needs a rule that forms per-example
    gradients, so it gets the factored one.
    """
    platform = jax.default_backend()
    known = next(known for known in KNOWN_FORMS if _fits(known, platform, model))
    why = f"the fastest form known {known.where.format(platform=platform.upper())}"
    if options.reduction is not None:
        known = known._replace(rule=rules.factored)
        why = "it forms per-example gradients, which the reduction needs"
    if options.mesh is None and jax.process_count() > 1:
        options = options._replace(mesh=make_mesh())
    at, most = _map_of(options), known.microbatch_size
    if at.cuts_kernels:
        known, most = known._replace(rule=rules.batch), None
        why = "the one that partitions dense kernels"
    if options.microbatch_size is None and most is not None:
        count = mesh_of(options).size if at.divides else 1
        size = microbatch_of(-(-batch_size // count), most=most)
        options = options._replace(microbatch_size=size)
    return Form(_name_of(known.rule, at), options, why)


def plain_form(options: Options) -> str:
    """Return the strategy with the rule `batch` on the devices of the options."""
    return _name_of(rules.batch, _map_of(options))


def microbatch_of(batch_size: int, *, most: int) -> int | None:
    """Return the microbatch size, at most `most`, that needs the fewest padding copies.

    Of those that need equally few, the largest; None: the batch fits in one.

    >>> [microbatch_of(size, most=32) for size in (8, 32, 64, 100, 250)]
    [None, None, 32, 25, 25]
    """
    if batch_size <= most:
        return None
    sizes = range(most, most // 2 - 1, -1)
    return min(sizes, key=lambda size: -(-batch_size // size) * size)


def _fits(known: Known, platform: str, model: ModelConfig) -> bool:
    if known.platform not in (None, platform):
        return False
    if known.processor is not None and known.processor not in (cpu_model() or ""):
        return False
    return known.layer is None or any(
        isinstance(layer, known.layer) for layer in model.layers
    )


def _map_of(options: Options) -> DeviceMap:
    """Return the device map for the devices of the options."""
    mesh = options.mesh
    if mesh is None or mesh.size == 1:
        return ONE_DEVICE
    return SHARDED if mesh.shape[MODEL] > 1 else SHARD_MAP


def _name_of(rule: rules.Rule, at: DeviceMap) -> str:
    """Return the strategy of this rule on this device map, with the reduction mean."""
    asked = (rule, at, reductions.mean)
    return next(name for name, row in STRATEGIES.items() if row == asked)
