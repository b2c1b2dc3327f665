"""Switch on known faults in an experiment that has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cnnjax.base.arguments import instance_of, several
from cnnjax.base.errors import InputError, expect
from cnnjax.experiments.experiment import Experiment, check_division_of
from cnnjax.experiments.objectives import augment_of, scale_of, trained_of
from cnnjax.experiments.recipes import Recipe
from cnnjax.faults.catalogue import corrupted, get_fault
from cnnjax.faults.fault import OF_GRADIENT, Fault, clash, unmet
from cnnjax.faults.needs import setting_of
from cnnjax.faults.of_training import Feed
from cnnjax.gradients.objective import Objective, make_objective
from cnnjax.models.losses import LOSSES
from cnnjax.strategies import STRATEGIES
from cnnjax.types import Params


def switch_in(experiment: Experiment, names: Sequence[str]) -> Experiment:
    """Return the experiment with these faults of `FAULTS` switched on.

    `experiment.objective` stays the right one, for comparison.

    Raises:
        InputError: not an experiment, or not a list of names; a fault is unknown, would
            have no effect there, or would be hidden by another.
    """
    instance_of(Experiment)("experiment (see prepare)", experiment)
    expect("names of faults as a list", names, not isinstance(names, str))
    names = several(instance_of(str))("names of faults", names)
    check_division_of(experiment)
    setting = setting_of(experiment)
    faults = [get_fault(name) for name in names]
    for fault in faults:
        if (missing := unmet(fault, setting)) is not None:
            raise InputError(missing)
    if (lost := clash(faults)) is not None:
        raise InputError(lost)
    wrong = wrong_objective(experiment.recipe, faults)
    assert wrong.apply_fn is not None
    assert wrong.test_loss_fn is not None
    row = corrupted("device map", STRATEGIES[experiment.recipe.strategy], faults)
    build = corrupted("strategy", row, faults)
    feed = Feed(experiment.train, experiment.test, experiment.loop, experiment.keys)
    feed = corrupted("data", feed, faults)
    return experiment._replace(
        apply_fn=wrong.apply_fn,
        test_loss_fn=wrong.test_loss_fn,
        strategy=build(wrong, experiment.form.options),
        optimizer=corrupted("optimizer", experiment.optimizer, faults),
        **feed._asdict(),
        means_fn=corrupted("report", experiment.means_fn, faults),
        faults=tuple(names),
    )


def with_gradient_faults(
    rows: Sequence[Experiment], names: Sequence[str], *, rules_too: bool
) -> list[Experiment]:
    """Build the strategy of each row, with the faults that could matter there.

    With `rules_too`, what clips is left out: it is switched into the per-example rules.

    Raises:
        InputError: a fault that is not known, corrupts no gradient, or could matter
            nowhere.
    """
    places: list[list[str]] = [[] for _ in rows]
    for fault in map(get_fault, names):
        if fault.place == "clipping" and rules_too:
            continue
        if fault.place not in (*OF_GRADIENT, "clipping"):
            raise InputError(
                f"fault {fault.name!r} leaves every gradient right: it corrupts the "
                f"{fault.place}; train.py shows what it does"
            )
        settings = [setting_of(row) for row in rows]
        missing = [unmet(fault, setting) for setting in settings]
        if all(missing):
            fits = [setting.strategy in fault.needs.strategies for setting in settings]
            raise InputError(str(missing[fits.index(True) if True in fits else 0]))
        for place, needed in zip(places, missing, strict=True):
            place += [] if needed else [fault.name]
    return list(map(switch_in, rows, places))


def wrong_objective(recipe: Recipe, faults: Sequence[Fault]) -> Objective:
    """Build the objective of a recipe with faults.

    A fault of the network affects all of it; a fault of the loss affects training only;
    a fault of a metric affects training and test.
    """
    loss = LOSSES[recipe.loss]
    measured = corrupted("metric", loss.of_output, faults)
    wrong = make_objective(
        corrupted("layer", recipe.model, faults),
        loss._replace(of_output=measured),
        scale_of(recipe),
        trained=trained_of(recipe, corrupted("loss", measured, faults)),
        augment=augment_of(recipe),
    )
    if all(fault.place != "parameters" for fault in faults):
        return wrong

    def of_wrong_parameters(fn: Callable[..., Any]) -> Callable[..., Any]:
        def used(params: Params, *others: Any, **named: Any) -> Any:
            return fn(corrupted("parameters", params, faults), *others, **named)

        return used

    functions = ("loss_fn", "factors_fn", "test_loss_fn", "apply_fn")
    changed = {name: of_wrong_parameters(getattr(wrong, name)) for name in functions}
    return wrong._replace(**changed)
