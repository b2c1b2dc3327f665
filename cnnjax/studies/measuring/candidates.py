"""The strategies worth trying for an experiment on this machine."""

from __future__ import annotations

from typing import NamedTuple

import jax

from cnnjax.experiments.experiment import Experiment, with_strategy
from cnnjax.models.stack import Conv
from cnnjax.strategies import STRATEGIES, mesh_of

MICROBATCHES = (8, 16, 32)


class Candidate(NamedTuple):
    """A way to compute the mean gradient."""

    strategy: str
    microbatch_size: int | None = None

    def __str__(self) -> str:
        """Return a name such as "jit in microbatches of 16"."""
        size = self.microbatch_size
        return self.strategy + (f" in microbatches of {size}" if size else "")


def candidates_for(experiment: Experiment) -> list[Candidate]:
    """Return what is worth trying for an experiment, on the devices that it may use.

    `factored` differs from `jit` only in convolutions, and is faster only on CPUs.
    Strategies that compute per-example norms are left out: they do extra work. So is
    `pmap`, the legacy form of `shard_map`.
    """
    size = experiment.loop.batch_size
    names = ["eager", "serial", "jit", "vmap"]
    num_devices = mesh_of(experiment.options).size
    if num_devices > 1:
        names += ["sharded", "shard_map"]
    in_parts = ["jit"] + ["shard_map"] * (num_devices > 1)
    convolves = any(isinstance(one, Conv) for one in experiment.recipe.model.layers)
    if convolves and jax.default_backend() == "cpu":
        names.append("factored")
        in_parts.append("factored")
    found = [Candidate(name) for name in names]
    for name in in_parts:
        part = size // (num_devices if STRATEGIES[name].divides else 1)
        found += [Candidate(name, micro) for micro in MICROBATCHES if micro < part]
    return found


def with_candidate(experiment: Experiment, candidate: Candidate) -> Experiment:
    """Return the experiment with a candidate's strategy."""
    options = experiment.options._replace(microbatch_size=candidate.microbatch_size)
    return with_strategy(experiment, candidate.strategy, options)
