"""The devices that a recipe's strategy is asked to run on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax

from cnnjax import devices
from cnnjax.base.errors import InputError, expect
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.recipe import FASTEST, Recipe
from cnnjax.results.environment import MOST_DEVICES
from cnnjax.strategies import STRATEGIES, Options, names_of


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How many devices are asked for, and how many examples each takes at a time."""

    num_devices: int | None = None  # None: all that are there
    model_devices: int = 1  # that share one copy of the dense kernels
    microbatch_size: int | None = None  # None: all at once

    def options_for(self, recipe: Recipe) -> Options:
        """Return the devices and the microbatch for the recipe's strategy.

        A strategy of one device takes one, however many there are. Where the recipe
        names none, all devices are used that are asked for, else one.

        Raises:
            InputError: more devices than there are.
        """
        cuts = self.model_devices
        if recipe.strategy == FASTEST:
            divides = max(self.num_devices or 1, cuts) > 1
        else:
            at = STRATEGIES[recipe.strategy].device_map
            divides = at.divides
            # Where no kernels are cut, all devices are for the batch.
            cuts = cuts if at.cuts_kernels else 1
        if not divides:
            return Options(None, self.microbatch_size)
        mesh = devices.make_mesh(self.num_devices, model_devices=cuts)
        return Options(mesh, self.microbatch_size)

    def strict_options_for(self, recipe: Recipe) -> Options:
        """Return the same, where every device that is asked for can be used.

        Raises:
            InputError: more devices than there are, or than the strategy can use.
        """
        if recipe.strategy == FASTEST:
            return self.options_for(recipe)
        at = STRATEGIES[recipe.strategy].device_map
        if not at.divides and (self.num_devices or 1) > 1:
            raise InputError(
                f"strategy {recipe.strategy!r} runs on one device, got --num_devices="
                f"{self.num_devices}; use {', '.join(names_of(divides=True))}"
            )
        if not at.cuts_kernels and self.model_devices > 1:
            raise InputError(
                f"strategy {recipe.strategy!r} cuts no kernels, got --model_devices="
                f"{self.model_devices}; use sharded"
            )
        return self.options_for(recipe)

    def make_devices(self, *, batch_size: int | None) -> None:
        """Have JAX make as many virtual devices of a CPU; before it starts.

        Raises:
            InputError: more devices than a batch has examples; or JAX has started in
                this process, with fewer devices.
        """
        count = self.num_devices
        if count is None:
            return
        most, why = MOST_DEVICES, "more would wait for one another"
        if batch_size is not None and 0 < batch_size * self.model_devices < most:
            most = batch_size * self.model_devices
            why = f"a batch of {batch_size} keeps no more busy"
        expect(f"--num_devices of at most {most} ({why})", count, count <= most)
        try:
            jax.config.update("jax_num_cpu_devices", count)
        except RuntimeError as error:
            if (there := jax.local_device_count()) < count:
                raise InputError(
                    f"--num_devices={count} comes too late: JAX has started in this "
                    f"process, with {there}; start a new one (in a notebook, write "
                    "!python in front, or restart the kernel)"
                ) from error


def streamed(experiment: Experiment, updates: int | None) -> Experiment:
    """Return the experiment with its training examples on the host.

    The examples of so many updates are on the devices at a time (see
    `training.streaming`); None: all are. The results are the same, bit for bit.

    Raises:
        InputError: not a number of updates.
    """
    return experiment._replace(loop=replace(experiment.loop, stream=updates))
