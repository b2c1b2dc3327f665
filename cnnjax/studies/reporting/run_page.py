"""The page of one run: its result, curves, classes, mistakes, settings and machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnjax.base import program
from cnnjax.loaded import Evaluation, LoadedRun
from cnnjax.models.stack import layer_rows
from cnnjax.results.outcomes import by_path
from cnnjax.results.plain import plain
from cnnjax.studies.reporting.page import page_of
from cnnjax.studies.reporting.words import code, counted, fold, table, text
from cnnjax.telling.filters import draw_filters, first_filters
from cnnjax.telling.layout import command
from cnnjax.telling.pictures import draw_calibration, draw_confusion, draw_mistakes
from cnnjax.telling.plots import draw_curves
from cnnjax.telling.text import metric_text

FILE = "report.html"
LAYER_HEAD = ("layer", "output", "parameters", "multiply-adds of an example")
CLASS_HEAD = ("class", "n", "right", "recall", "precision")


def run_page(run: LoadedRun, found: Evaluation, *, part: str) -> str:
    """Return a self-contained HTML page of a run.

    Args:
        run: what was read back.
        found: how good it is on some examples.
        part: which they are, in words: "the test examples of digits".

    Raises:
        InputError: a picture cannot be made.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sections = [
            _head(run, found, part),
            _pictures(run, found, folder),
            _classes(found),
            _network(run),
            _settings(run),
            _machine(run),
        ]
        title = f"{run.recipe.name} on {run.recipe.dataset}"
        return page_of("\n\n".join(filter(None, sections)), folder=folder, title=title)


def _head(run: LoadedRun, found: Evaluation, part: str) -> str:
    recipe, done = run.recipe, len(run.epochs)
    lines = [f"# {text(recipe.name)} on {text(recipe.dataset)}"]
    if found.classifies:
        low, high = (100 * bound for bound in found.interval)
        lines.append(
            f"**{metric_text('accuracy', found.accuracy)}** of {text(part)} are right: "
            f"{found.right:,} of {len(found.labels):,}; 95 % interval {low:.2f} to "
            f"{high:.2f} % (Wilson). Loss {metric_text('loss', found.loss)}."
        )
    else:
        loss = metric_text("loss", found.loss)
        lines.append(f"**Loss {loss}** on {len(found.labels):,} of {text(part)}.")
    ended = "" if run.result else " It is not finished."
    epochs = counted(done, "epoch")
    lines.append(f"{epochs}, seed {run.seed}.{ended} {text(recipe.summary)}.")
    if run.settings.faults:
        names = ", ".join(map(code, run.settings.faults))
        lines.append(f"**With faults, on purpose:** {names}.")
    return "\n\n".join(lines)


def _pictures(run: LoadedRun, found: Evaluation, folder: Path) -> str:
    """Draw what there is to draw into a folder; return the sections that show it."""
    filters = first_filters(run.recipe.model, run.params)
    drawings: dict[str, Callable[[], bytes | None]] = {}
    if run.epochs:
        drawings["Curves"] = lambda: draw_curves(run.epochs, title="")
    if found.classifies:
        drawings["Confusion"] = lambda: draw_confusion(found, title="")
        drawings["Most confident mistakes"] = lambda: draw_mistakes(found, title="")
        drawings["Calibration"] = lambda: draw_calibration(found, title="")
    if filters is not None:
        drawings["What the first layer looks for"] = lambda: draw_filters(filters)
    sections = []
    for number, (name, drawing) in enumerate(drawings.items()):
        png = drawing()
        if png is not None:
            (folder / f"{number}.png").write_bytes(png)
            sections.append(f"## {name}\n\n![{name}]({number}.png)")
    return "\n\n".join(sections)


def _classes(found: Evaluation) -> str:
    if not found.classifies:
        return ""
    of, right = found.per_class, np.diag(found.confusion)
    rows = [
        (
            text(name),
            f"{of.support[index]:,}",
            f"{right[index]:,}",
            _share(of.recall[index]),
            _share(of.precision[index]),
        )
        for index, name in enumerate(found.class_names)
    ]
    return f"## Classes\n\n{table(CLASS_HEAD, rows)}"


def _share(value: float) -> str:
    return "-" if np.isnan(value) else metric_text("accuracy", value)


def _network(run: LoadedRun) -> str:
    rows = [
        (
            text(row.name),
            " x ".join(map(str, row.output_shape)),
            f"{row.parameters:,}",
            f"{row.macs:,}",
        )
        for row in layer_rows(run.recipe.model)
    ]
    return f"## Network\n\n{table(LAYER_HEAD, rows)}"


def _settings(run: LoadedRun) -> str:
    described = plain(run.recipe)
    described["model"].pop("layers", None)  # they are the network's table
    rows = [
        (text(name), text("none" if value is None else str(value)))
        for name, value in by_path(described).items()
        if not name.endswith("type") or name.count(".") == 1
    ]
    return fold("Settings", table(("setting", "value"), rows))


def _machine(run: LoadedRun) -> str:
    told = {**run.environment}
    told.pop("peers", None)
    rows = [(text(name), text(str(value))) for name, value in told.items()]
    sections = []
    if rows:
        sections.append(fold("Machine and versions", table(("what", "value"), rows)))
    words = list(run.settings.command)
    if words:
        lines = _block(command(program.shell(words)))
        sections.append(f"## How to train it again\n\n{lines}")
    return "\n\n".join(sections)


def _block(lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines.splitlines())
