"""Write an export, load it in a fresh process, and compare what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.base.errors import InputError, expect, unknown_name
from cnnjax.loaded import LoadedRun
from cnnjax.loaded.exports.formats import FORMATS, Source
from cnnjax.loaded.exports.fresh import read_again
from cnnjax.results.folders import shown_path, writing


class Export(NamedTuple):
    """An export that was loaded again and compared."""

    format: str
    files: tuple[Path, ...]
    error: float  # largest difference of the outputs, relative to the largest of them
    bound: float  # what was allowed


def export_run(
    run: LoadedRun, to: Path, formats: Sequence[str], *, data_dir: str | None = None
) -> list[Export]:
    """Export a network into a folder, in each format, and check each.

    `train_step` is of the training: it begins with the state of the newest checkpoint,
    and reads the data set again. `data_dir` is the folder of your data files, if any.

    Raises:
        InputError: an unknown format; a network or a run that has no such form; a
            package, a checkpoint or a data set that is missing; data that has changed
            since; outputs that are not finite; the folder cannot be written; or what
            was loaded again computes something else.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    with writing(to):
        to.mkdir(parents=True, exist_ok=True)
    source = Source(run, data_dir)
    return [_export(source, to, name) for name in formats]


def _export(source: Source, to: Path, name: str) -> Export:
    form = FORMATS[name]
    files = form.write(source, to)
    expected = form.expected(source)
    for what, values in expected.items():
        expect(f"{name}: finite {what}", "others", bool(np.isfinite(values).all()))
    got = read_again(to, name, form.given(source))
    error = np.inf
    if expected.keys() == got.keys():
        error = max(error_of(got[key], expected[key]) for key in expected)
    if not error <= form.bound:
        raise InputError(
            f"{name}: what was written into {shown_path(to)} computes something else: "
            f"largest relative error {error:.1e}, allowed {form.bound:.0e}"
        )
    return Export(name, tuple(to / file for file in files), error, form.bound)


def error_of(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the largest number that is expected.

    Infinity: another shape, or a number that is not finite.
    """
    if got.shape != expected.shape or not np.isfinite(got).all():
        return np.inf
    largest = np.abs(expected).max(initial=0.0) or 1.0
    return float(np.abs(got - expected).max(initial=0.0) / largest)
