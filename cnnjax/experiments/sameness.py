"""Whether settings are those of the run that a folder holds; if not, which differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnjax.base.errors import InputError, expect, shown
from cnnjax.data.fingerprints import changed
from cnnjax.experiments.described import recipe_of
from cnnjax.experiments.experiment import Experiment
from cnnjax.results.outcomes import by_path
from cnnjax.results.plain import plain
from cnnjax.training.optimizers import make_schedule

# What may differ between two starts: results are then equal within rounding only.
FORM = ("recipe.strategy", "microbatch_size")
EPOCHS = "recipe.epochs"
# Settings that every config has; an absent one is that of a shorter list. Others may be
# absent from the config of an earlier version.
ALWAYS = ("recipe.", "faults.", "seed")


def check_same(
    where: str,
    earlier: Mapping[str, Any],
    config: Mapping[str, Any],
    experiment: Experiment,
) -> int | None:
    """Refuse another run; return its number of epochs, where only that differs.

    Raises:
        InputError: the settings differ; the message names them.
    """
    then, now = by_path(_completed(earlier)), by_path(config)
    names = [
        n for n in {**then, **now} if (n in then and n in now) or n.startswith(ALWAYS)
    ]
    different = [
        name
        for name in names
        if then.get(name) != now.get(name)
        and name not in (*FORM, "command")
        and not name.startswith("data.")
    ]
    told = changed(earlier["data"], config["data"]) if "data" in earlier else None
    if told is not None:
        raise InputError(
            f"{where} holds a run on other data: {told}; bring the data back, or "
            "choose another --workdir"
        )
    if different == [EPOCHS]:
        before, after = then[EPOCHS], now[EPOCHS]
        if "seeds" in earlier:
            raise InputError(
                f"{where} holds a run of several seeds and {before} epochs, and seeds "
                f"that have ended cannot go on to {after}; choose another --workdir"
            )
        if isinstance(before, int) and same_rates(experiment, before):
            expect(f"--epochs of at least {before} in {where}", after, after >= before)
            return before
        raise InputError(
            f"{where} holds a run of {before} epochs, and its learning rate depends on "
            f"that: it cannot go on to {after}; choose another --workdir"
        )
    if different:
        raise InputError(
            f"{where} holds another run: {listed(different, then, now)}; choose "
            "another --workdir, or --overwrite to replace it"
        )
    return None


def _completed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give each setting that an earlier version did not know its default."""
    try:
        return {**config, "recipe": plain(recipe_of(config["recipe"]))}
    except (InputError, KeyError):  # a layer of one's own, say: it is compared as it is
        return config


def listed(
    names: Sequence[str], then: Mapping[str, Any], now: Mapping[str, Any]
) -> str:
    """Say what the first five of these settings were, and what they are."""
    pairs = [f"{n} was {shown(then.get(n))}, is {shown(now.get(n))}" for n in names[:5]]
    return ", ".join([*pairs, *(["..."] if names[5:] else [])])


def same_rates(experiment: Experiment, epochs: int) -> bool:
    """Whether the updates made in so many epochs have the rates of this experiment."""
    per_epoch = -(-experiment.examples_per_epoch // experiment.loop.batch_size)
    optimizer = experiment.recipe.optimizer
    earlier = make_schedule(optimizer, steps_per_epoch=per_epoch, epochs=epochs)
    steps = jnp.arange(per_epoch * min(epochs, experiment.recipe.epochs))
    return np.array_equal(earlier(steps), experiment.schedule(steps))
