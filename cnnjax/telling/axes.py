"""Axes that a reader takes in at a glance: few labels, plain words, percent."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from cnnjax.base.printable import printable

WORDS = {  # of what is measured
    "loss": "loss (less is better)",
    "accuracy": "accuracy (%)",
    "grad_norm": "mean norm of an example's gradient",
}
MOST_DRAWN = 200  # characters of a line of text
MOST = 6  # labels of an axis of logarithms
STEPS = ((1, 2, 5), (1, 3), (1,), (1, 1.5, 2, 3, 5, 7))  # the best to read first


def word(measure: str) -> str:
    """Name a measure on an axis: its own name, where nothing better is known."""
    return WORDS.get(measure, measure.replace("_", " "))


def scale_of(measure: str) -> float:
    """Return what values are multiplied by: a fraction is shown in percent."""
    return 100.0 if measure == "accuracy" else 1.0


def literal(text: str) -> str:
    r"""Return a text as Matplotlib draws it literally: no formula, nothing hidden.

    >>> print(literal("a $x$"))
    a \$x\$
    """
    lines = [printable(line)[:MOST_DRAWN] for line in text.split("\n")]
    told = "\n".join(lines).replace("$", r"\$")
    return f" {told}" if told.startswith("_") else told  # that would be left out


def label_epochs(axes: Axes) -> None:
    """Label an axis of epochs: whole numbers, few of them."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True)
    )


def log_y(axes: Axes) -> None:
    """Make the y axis logarithmic, with few labels; call it once all is drawn."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(FixedLocator(few(low, high)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def few(low: float, high: float) -> list[float]:
    """Return three to six round numbers between two, for an axis of logarithms.

    >>> few(0.08, 2.1), few(1e-12, 1.0)
    ([0.1, 0.2, 0.5, 1.0, 2.0], [1e-12, 1e-09, 1e-06, 0.001, 1.0])
    >>> few(1.46, 1.9)
    [1.5, 1.6, 1.7, 1.8, 1.9]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    inside: list[float] = []
    for steps in STEPS:
        exact = (float(f"{s}e{n}") for n in range(first, last + 1) for s in steps)
        inside = [x for x in exact if low <= x <= high]
        if 3 <= len(inside) <= MOST:
            return inside
        if steps == (1,) and len(inside) > MOST:
            return inside[:: -(-len(inside) // MOST)]
    ticks = MaxNLocator(nbins=MOST - 1).tick_values(low, high)
    return [x for x in (float(f"{tick:.6g}") for tick in ticks) if low <= x <= high]
