"""List all recipes, and what was published of them: five systems, run by run.

    python scripts/recipes.py --systems=A,C --figures

For each run it prints the command that trains it, on the data it was published on:
add --data_dir=DIR where the data is a file of yours, and --workdir=DIR to keep a run.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _start  # noqa: F401  # before what imports JAX

# isort: split
import _script
from absl import flags

from cnnjax.base.errors import InputError
from cnnjax.experiments.recipes import RECIPES
from cnnjax.studies.published import SYSTEMS, Figure, PublishedRun, System, get_system
from cnnjax.studies.published.run import Number

FLAGS = flags.FLAGS
flags.DEFINE_list("systems", list(SYSTEMS), "Of which systems the runs are listed.")
flags.DEFINE_bool(
    "figures", False, "Print every figure, with band, source and remarks."
)
flags.DEFINE_bool("json", False, "Print a JSON object a run, and no text.")
WIDTH = 88


def main(args: list[str]) -> None:
    """Print the recipes and the runs that the flags ask for."""
    _script.refuse_arguments(args)
    systems = [get_system(letter) for letter in FLAGS.systems]
    if FLAGS.json and FLAGS.figures:
        raise InputError("expected --figures or --json, got both; JSON has all figures")
    if FLAGS.json:
        for system in systems:
            for run in system.runs:
                print(json.dumps(_as_json(system, run), allow_nan=False))
        return
    for recipe in RECIPES.values():
        print(f"{recipe.name:26} {recipe.summary}")
    for system in systems:
        print(f"\n{system.letter}. {system.title}\n   {system.question}")
        for run in system.runs:
            print("\n".join(["", *_run_lines(run)]))


def _run_lines(run: PublishedRun) -> list[str]:
    """Describe a run in lines; the last is the command that trains it."""
    corrects = f" (corrects {run.corrects})" if run.corrects else ""
    lines = [f"{run.name}: {run.title}{corrects}"]
    lines += textwrap.wrap(run.explanation, WIDTH - 4)
    remark = ""
    for figure in run.figures if FLAGS.figures else _headlines(run):
        lines.append(_figure_line(figure))
        if FLAGS.figures and figure.remark != remark:  # a curve's, once
            remark = figure.remark
            lines += textwrap.wrap(f"({remark})", WIDTH - 8) if remark else []
        if FLAGS.figures and figure.why_out:
            lines += textwrap.wrap(f"(if out of band: {figure.why_out})", WIDTH - 8)
    return [
        *(f"    {line}" if i else f"  {line}" for i, line in enumerate(lines)),
        f"    {_command(run)}",
    ]


def _headlines(run: PublishedRun) -> list[Figure]:
    """Choose the end of each published curve, and the time; else where a run falls."""
    curves: dict[str, list[Figure]] = {}
    for figure in run.figures:
        if figure.source == "reported" and figure.metric.startswith(
            ("train_", "test_")
        ):
            curves.setdefault(figure.what, []).append(figure)
    if not curves:
        return [figure for figure in run.figures if figure.value is None][:1]
    # Two points are two runs of the report that are one of ours, or its two versions.
    return [f for points in curves.values() for f in points[-1 if points[2:] else 0 :]]


def _figure_line(figure: Figure) -> str:
    """Print a figure without its remark."""
    value = "-" if figure.value is None else _number(figure, figure.value)
    epoch = "" if figure.epoch is None else f", epoch {figure.epoch}"
    line = f"{figure.what}{epoch}: {value}"
    if figure.band is not None:
        low, high = (_number(figure, end) for end in figure.band)
        line += f", exactly {low}" if low == high else f", within {low} to {high}"
    return f"{line}  [{figure.source}]"


def _number(figure: Figure, value: Number) -> str:
    if figure.metric.endswith("_accuracy"):
        return f"{100 * value:.2f} %"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.8g}"


def _command(run: PublishedRun) -> str:
    return shlex.join(["python", "scripts/train.py", *run.flags()])


def _as_json(system: System, run: PublishedRun) -> dict[str, Any]:
    """Return a run as JSON knows it; a value that was a NaN becomes "nan"."""
    figures = [dict(vars(figure)) for figure in run.figures]
    for figure in figures:
        if figure["value"] is not None and math.isnan(figure["value"]):
            figure["value"] = "nan"
    return {
        "system": system.letter,
        **vars(run),
        "changes": dict(run.changes),
        "figures": figures,
        "command": _command(run),
    }


if __name__ == "__main__":
    _script.run(main)
