"""A sweep as a table for a terminal, and as one picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cnnjax.base.printable import printable
from cnnjax.experiments.recipe import Recipe
from cnnjax.statistics import mean_interval
from cnnjax.statistics.classification import wilson
from cnnjax.studies.sweeping.choosing import Tried, verdict
from cnnjax.studies.sweeping.grid import Choice
from cnnjax.studies.sweeping.how import How
from cnnjax.telling.axes import literal, scale_of, word
from cnnjax.telling.layout import row, wrap
from cnnjax.telling.text import environment_text, metric_text

MOST_LINES = 10  # of a picture


def introduction(how: How, base: Recipe, count: int) -> list[str]:
    """Say on what is trained, and what."""
    seeds = f", {len(how.seeds)} seeds of each" * bool(how.seeds[1:])
    told = f"recipe {base.name}, dataset {base.dataset}, {count} choices{seeds}"
    told += f", up to {how.at_once} in one program" * (how.at_once > 1)
    return [environment_text(how.environment), printable(wrap(told)), ""]


def group_text(group: Sequence[Choice]) -> str:
    """Name the choices that are trained together."""
    others = f" and {len(group) - 1} more" * bool(group[1:])
    return f"{group[0].name}{others}"


def table_lines(tried: Sequence[Tried], best: Tried) -> list[str]:
    """Return a row for each choice; the chosen one has a star."""
    names, metric = list(tried[0].choice.values), tried[0].metric
    head = [*names, "seeds", f"validation {metric}", ""]
    cells = [head, *(_cells(one, one is best) for one in tried)]
    widths = [max(len(own[place]) for own in cells) for place in range(len(head))]
    return [row(own, widths).rstrip() for own in cells]


def line(one: Tried) -> str:
    """Say in a line what a choice gave."""
    score = metric_text(one.metric, one.score)
    told = f"{one.choice.name}: validation {one.metric} {score}"
    return wrap(told + " (diverged)" * one.diverged)


def _cells(one: Tried, chosen: bool) -> list[str]:
    score = metric_text(one.metric, one.score)
    mark = "diverged" if one.diverged else "chosen" if chosen else ""
    values = [printable(f"{value}") for value in one.choice.values.values()]
    return [*values, str(len(one.scores)), score, mark]


def conclusion(
    best: Tried,
    second: Tried | None,
    test: Mapping[int, Mapping[str, float]],
) -> list[str]:
    """Say what was chosen, how sure that is, and what the test says of it."""
    lines = [wrap(f"chosen: {best.choice.name}")]
    if second is not None:
        lines.append(wrap(f"A is this, B the next best, {second.choice.name}"))
        lines.append(wrap(f"verdict: {verdict(best, second)}"))
    return [*lines, wrap(test_text(best.metric, test))]


def test_text(metric: str, test: Mapping[int, Mapping[str, float]]) -> str:
    """Say what the chosen networks gave on the test examples, with an interval."""
    scores = [of[metric] for of in test.values()]
    told = f"test {metric}: {metric_text(metric, fmean(scores))}"
    interval = mean_interval(scores).student
    if interval is not None:
        what = f"the mean of {len(scores)} seeds"
    elif metric == "accuracy":
        (of,) = test.values()
        count = int(of["examples"])
        interval = wilson(round(of[metric] * count), count)
        what = f"{count:,} examples"
    else:
        return f"{told} (looked at once, for the chosen network)"
    low, high = (metric_text(metric, bound) for bound in interval)
    return f"{told} (95 % interval {low} to {high}, of {what}; looked at once)"


def draw_sweep(tried: Sequence[Tried], *, title: str) -> bytes:
    """Draw the validation score of each choice, as a PNG.

    The setting with the most values is the horizontal axis; each combination of the
    others is a line. Of several seeds every one is a point, and the line is their mean.
    """
    names = list(tried[0].choice.values)
    known = {n: list(dict.fromkeys(t.choice.values[n] for t in tried)) for n in names}
    along = max(names, key=lambda name: len(known[name]))
    metric, values = tried[0].metric, known[along]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines: dict[str, list[Tried]] = {}
    for one in tried:
        others = [f"{n}={v}" for n, v in one.choice.values.items() if n != along]
        lines.setdefault(", ".join(others), []).append(one)
    numeric = all(isinstance(value, int | float) for value in values)
    for number, (label, own) in enumerate(list(lines.items())[:MOST_LINES]):
        own = [one for one in own if not one.diverged]
        places = [one.choice.values[along] for one in own]
        places = places if numeric else [values.index(place) for place in places]
        order = np.argsort(places)
        shown = [scale_of(metric) * own[at].score for at in order]
        color, marker = f"C{number % 10}", "o"
        axes.plot(
            [places[at] for at in order], shown, marker=marker, ms=4, color=color,
            label=literal(label or metric),
        )  # fmt: skip
        for place, one in zip(places, own, strict=True):
            scores = [scale_of(metric) * score for score in one.scores.values()]
            axes.plot([place] * len(scores), scores, ".", color=color, alpha=0.5)
    if numeric and min(values) > 0 and max(values) >= 10 * min(values):
        axes.set_xscale("log")
    axes.set_xticks(values if numeric else range(len(values)))
    axes.set_xticklabels([literal(printable(f"{value}")) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(literal(along))
    axes.set_ylabel(f"validation {word(metric)}")
    axes.grid(alpha=0.3)
    if lines.keys() != {""}:
        axes.legend(fontsize="small")
    figure.suptitle(literal(title))
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()
