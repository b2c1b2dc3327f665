"""Write an export, load it in a fresh process, and compare what it computes.

Only then are its files put where they were asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.base.errors import InputError, expect, unknown_name
from cnnjax.loaded import LoadedRun
from cnnjax.loaded.exports.formats import FORMATS, Source
from cnnjax.loaded.exports.fresh import read_again
from cnnjax.results.folders import shown_path, writing
from cnnjax.results.workdir import Workdir


class Export(NamedTuple):
    """An export that was loaded again and compared."""

    format: str
    files: tuple[Path, ...]
    error: float  # largest difference of the outputs, relative to the largest of them
    bound: float  # what was allowed


def export_run(
    run: LoadedRun,
    to: Path,
    formats: Sequence[str],
    *,
    data_dir: str | None = None,
    overwrite: bool = False,
) -> list[Export]:
    """Export a network into a folder, in each format, and check each.

    `train_step` is of the training: it begins with the state of the newest checkpoint,
    and reads the data set again. `data_dir` is the folder of your data files, if any.
    Files of another export are replaced with `overwrite` only, and those of another run
    never.

    Raises:
        InputError: an unknown format; a network or a run that has no such form; a
            package, a checkpoint or a data set that is missing; data that has changed
            since; outputs that are not finite; the folder cannot be written, or holds
            other files of these names; or what was loaded again computes something
            else. Nothing is written then of this format.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    with writing(to):
        to.mkdir(parents=True, exist_ok=True)
    source = Source(run, data_dir)
    return [_export(source, to, name, overwrite) for name in formats]


def _export(source: Source, to: Path, name: str, overwrite: bool) -> Export:
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder)
        files = FORMATS[name].write(source, aside)
        error = _checked(source, aside, name)
        contents = {file: (aside / file).read_bytes() for file in files}
    _refuse_others(contents, to, overwrite)
    for file, content in contents.items():
        Workdir(to).write_bytes(file, content)
    files = tuple(to / file for file in contents)
    return Export(name, files, error, FORMATS[name].bound)


def _checked(source: Source, aside: Path, name: str) -> float:
    """Load what was written, and return how far it is from what was meant."""
    form = FORMATS[name]
    expected = form.expected(source)
    for what, values in expected.items():
        expect(f"{name}: finite {what}", "others", bool(np.isfinite(values).all()))
    got = read_again(aside, name, form.given(source))
    error = np.inf
    if expected.keys() == got.keys():
        error = max(error_of(got[key], expected[key]) for key in expected)
    if not error <= form.bound:
        raise InputError(
            f"{name}: what was written computes something else: largest relative error "
            f"{error:.1e}, allowed {form.bound:.0e}; it was not kept"
        )
    return error


def _refuse_others(contents: Mapping[str, bytes], to: Path, overwrite: bool) -> None:
    """Refuse to replace files of another content; those of a run in any case."""
    is_run = (to / "config.json").exists()
    for file, content in contents.items():
        path = to / file
        others = path.exists() and (path.is_dir() or path.read_bytes() != content)
        if others and (is_run or not overwrite):
            of = "run" if is_run else "export"
            raise InputError(
                f"{shown_path(path)} is of another {of}; choose another --to"
                + ", or --overwrite to replace it" * (not is_run)
            )


def error_of(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the largest number that is expected.

    Infinity: another shape, or a number that is not finite.
    """
    if got.shape != expected.shape or not np.isfinite(got).all():
        return np.inf
    largest = np.abs(expected).max(initial=0.0) or 1.0
    return float(np.abs(got - expected).max(initial=0.0) / largest)
