"""A published run: a recipe with changes, and the numbers that its report states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cnnjax.base.errors import unknown_name
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import Recipe, get_recipe

# "reported": stated in the report; "derived": computed from what it states; "measured":
# by us, with a correct implementation of the same settings.
Source = Literal["reported", "derived", "measured"]
Number = int | float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One published number, where to find ours, and the range it should fall in.

    The unit is that of the metric: fractions for accuracies, nats for cross-entropy,
    seconds for times.
    """

    what: str  # for people: "test accuracy"
    # A key of metrics.jsonl, in the line of `epoch`; without an epoch, of result.json.
    metric: str
    epoch: int | None = None  # from 1
    # As published; None: only a band was; NaN: the published value was NaN.
    value: Number | None
    # The expected range; None: not known. For exact values, both ends are equal.
    band: tuple[Number, Number] | None = None
    source: Source = "reported"
    # Of a time: the number of epochs, to which ours is scaled; None: the entire run.
    of_epochs: int | None = None
    remark: str = ""  # anything else worth knowing
    why_out: str = ""  # if ours is out of band: why, if that is known


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """One run of a system: a recipe, its changes, and the published figures.

    A run of the original program has the faults of the original; its correction has
    none, and `corrects` names the run that it corrects.
    """

    name: str  # "serial": unique within its system
    title: str  # in a few words
    recipe: str  # a name of recipes.RECIPES
    changes: Mapping[str, Any] = field(default_factory=dict)  # for overrides.override
    faults: tuple[str, ...] = ()  # names of faults.FAULTS
    figures: tuple[Figure, ...] = ()
    corrects: str | None = None  # the name of another run of the same system
    seeds: int = 1  # to train at full scale; the quick scale trains one
    # Epochs at quick scale, if fewer than the recipe's; figures of later epochs then
    # stay open.
    quick_epochs: int | None = None
    at_quick: bool = True  # False: trained at full scale only
    evaluate_every: int = 1  # epochs between tests; 0: only at the end
    # Whether one core is as fast as two: then several runs are trained in parallel.
    one_core: bool = False
    # What happened, in two or three sentences, for readers who never saw the report.
    explanation: str = ""

    def settled(self) -> Recipe:
        """Return the recipe with its changes, on the dataset of the report."""
        return override(get_recipe(self.recipe), **self.changes)

    def flags(self) -> list[str]:
        """Return the flags that make scripts/train.py train this run.

        >>> PublishedRun(
        ...     name="short",
        ...     title="two epochs",
        ...     recipe="sgd_dropout_cnn",
        ...     changes={"epochs": 2},
        ...     faults=("softmax_before_cross_entropy",),
        ... ).flags()
        ['--recipe=sgd_dropout_cnn', '--dataset=mnist', '--epochs=2',
         '--fault=softmax_before_cross_entropy']
        """
        changes = {"dataset": get_recipe(self.recipe).dataset, **self.changes}
        if self.evaluate_every != 1:
            changes["evaluate_every"] = self.evaluate_every
        return [
            f"--recipe={self.recipe}",
            *(f"--{name}={value}" for name, value in changes.items()),
            *(f"--fault={name}" for name in self.faults),
        ]


@dataclass(frozen=True, kw_only=True)
class System:
    """One system that somebody wrote, ran and reported, with all its runs."""

    letter: str  # "A"
    title: str
    question: str  # that its report leaves open
    runs: tuple[PublishedRun, ...]

    def run(self, name: str) -> PublishedRun:
        """Return the run with this name.

        Raises:
            InputError: there is none; the message suggests the nearest name.
        """
        runs = {run.name: run for run in self.runs}
        if name not in runs:
            raise unknown_name(f"run of system {self.letter}", name, runs)
        return runs[name]
