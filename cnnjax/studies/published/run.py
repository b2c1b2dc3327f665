"""What a report states: a run of a recipe, with its numbers as they were published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cnnjax.base.errors import unknown_name
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import Recipe, get_recipe

# "reported": the report says so; "derived": worked out from what it says; "measured":
# with a correct implementation of the same settings, by us.
Source = Literal["reported", "derived", "measured"]
Number = int | float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One published number, and where ours is to be found and should fall.

    The unit is that of the metric: fractions for accuracies, nats for cross-entropy,
    seconds for times.
    """

    what: str  # as people read it: "test accuracy"
    # A key of metrics.jsonl, at the line of `epoch`; without an epoch, of result.json.
    metric: str
    epoch: int | None = None  # from 1
    # As published; None: nothing was, and there is a band only; NaN: it was a NaN.
    value: Number | None
    # Where a run should fall; None: not known. Of something exact, twice the same.
    band: tuple[Number, Number] | None = None
    source: Source = "reported"
    # Of a time: its number of epochs, to which ours is scaled; None: all of the run.
    of_epochs: int | None = None
    remark: str = ""  # what else is to be known of it
    why_out: str = ""  # why ours is out of band, where it is, and it is known


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """One run of a system: a recipe, what is changed in it, and what it came to.

    A run of the original program has the faults of the original; its correction has
    none, and `corrects` names the run that it puts right.
    """

    name: str  # "serial": unique within its system
    title: str  # in a few words
    recipe: str  # a name of recipes.RECIPES
    changes: Mapping[str, Any] = field(default_factory=dict)  # as overrides.override
    faults: tuple[str, ...] = ()  # names of faults.FAULTS
    figures: tuple[Figure, ...] = ()
    corrects: str | None = None  # the name of another run of the same system
    seeds: int = 1  # to train at full scale; one at quick
    # Epochs at quick scale, where fewer than the recipe's; figures of later epochs then
    # stay open.
    quick_epochs: int | None = None
    at_quick: bool = True  # False: trained at full scale only
    evaluate_every: int = 1  # epochs between tests; 0: at the end only
    # Whether one core is as fast as two: then several are trained side by side.
    one_core: bool = False
    # What happened, in two or three sentences, for a reader who never saw the report.
    explanation: str = ""

    def settled(self) -> Recipe:
        """Return the recipe with the changes in it, on the data it was published on."""
        return override(get_recipe(self.recipe), **self.changes)

    def flags(self) -> list[str]:
        """Return the flags with which scripts/train.py trains this run.

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
    """One system that somebody wrote, ran and reported, and all of its runs."""

    letter: str  # "A"
    title: str
    question: str  # that its report leaves
    runs: tuple[PublishedRun, ...]

    def run(self, name: str) -> PublishedRun:
        """Return the run of this name.

        Raises:
            InputError: there is none; the message names the nearest.
        """
        runs = {run.name: run for run in self.runs}
        if name not in runs:
            raise unknown_name(f"run of system {self.letter}", name, runs)
        return runs[name]
