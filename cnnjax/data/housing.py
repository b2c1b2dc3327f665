"""Housing.csv: 545 houses, whose price is predicted from five numbers.

"Housing Prices Dataset", Kaggle, 2022,
https://www.kaggle.com/datasets/yasserh/housing-prices-dataset.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnjax.base.errors import InputError, shown
from cnnjax.data.dataset import Dataset
from cnnjax.data.files import is_file, misspelled, read_file, search_folders
from cnnjax.data.signatures import kind_of
from cnnjax.types import Examples

FILE = "Housing.csv"
INPUTS = ("area", "bedrooms", "bathrooms", "stories", "parking")
TARGET = "price"
LARGEST = float(np.finfo(np.float32).max)
# Not float(), which also accepts underscores, and digits of any script.
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.I)


def load_housing(data_dir: str | None = None) -> Dataset:
    """Read the table, with each column scaled to 0..1.

        x = (value - min) / (max - min)

    min and max are over the entire table, including rows that are held out later, as
    system B does. There is no test set. Cells are separated by commas; spaces around
    them, and the case of the header, are ignored. A cell in quotes ends with its quote,
    and cannot span several lines.

    Returns:
        float32 inputs [545, 5] and float32 targets [545, 1].

    Raises:
        InputError: the file is missing, lacks a column or has one twice, or holds a
            value that cannot be used.
    """
    columns = (*INPUTS, TARGET)
    path = _find(data_dir)
    table = _read_table(path, columns)
    low, high = table.min(axis=0), table.max(axis=0)
    for column, smallest, largest in zip(columns, low, high, strict=True):
        if smallest == largest:
            raise InputError(
                f"{path}: expected different values in column {column!r}, got "
                f"{smallest:g} in every row; it cannot be mapped to 0..1"
            )
    scaled = ((table - low) / (high - low)).astype(np.float32)
    return Dataset(
        name="housing",
        train=Examples(scaled[:, :-1], scaled[:, -1:]),
        test=None,
        class_names=(),
    )


def _find(data_dir: str | None) -> Path:
    if data_dir is None:
        raise InputError(
            f"dataset housing is never downloaded: give the folder of {FILE} with "
            "--data_dir"
        )
    folders = search_folders("housing", data_dir)
    for folder in folders:
        if is_file(folder / FILE):
            return folder / FILE
    raise InputError(
        f"expected {FILE} in {folders[0]} or {folders[1]}, got none"
        f"{misspelled(folders, [FILE])}"
    )


def _read_table(path: Path, columns: tuple[str, ...]) -> np.ndarray:
    content = read_file(path).content
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        kind = kind_of(content)
        raise InputError(
            f"{path}: not a CSV file in UTF-8 ({error}), but {kind.words}; "
            f"{kind.way_out}"
        ) from error
    if not text.strip():
        raise InputError(f"{path}: expected a table, got an empty file; copy it again")
    lines = _cells(path, text)
    _, header = next(lines)
    names = [name.strip().lower() for name in header]
    _check_header(path, header, names, columns=columns)
    rows = []
    for where, cells in lines:
        if len(cells) > len(names):
            raise InputError(f"{where}: expected as many cells as the header")
        row = dict(zip(names, cells, strict=False))  # a short row lacks its last cells
        rows.append([_number(row.get(c), c, where=where) for c in columns])
    if not rows:
        raise InputError(f"{path}: expected at least two rows, got an empty table")
    return np.array(rows, np.float64)


def _cells(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the cells of each line; skip empty lines."""
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            # Line by line: a quote that is not closed would consume the next lines.
            (cells,) = csv.reader([line], skipinitialspace=True, strict=True)
        except csv.Error as error:
            raise InputError(
                f"{where}: expected cells whose quotes are closed on the same line, "
                f"got {shown(line.strip())} ({error}); close the quotes"
            ) from error
        yield where, cells


def _check_header(
    path: Path, header: Sequence[str], names: Sequence[str], *, columns: Sequence[str]
) -> None:
    """Raise InputError if a column is missing or occurs twice; case is ignored."""
    missing = [column for column in columns if column not in names]
    if missing:
        way_out = ""
        for sign, name in ((";", "semicolons"), ("\t", "tabs")):
            if any(sign in cell for cell in header):
                way_out = f"; it is separated by {name}: save it with commas"
        raise InputError(
            f"{path}: expected columns {', '.join(columns)}, missing "
            f"{', '.join(missing)}, got the header {','.join(header)[:200]!r}{way_out}"
        )
    for column in columns:
        if (count := names.count(column)) > 1:
            raise InputError(
                f"{path}: expected one column {column!r}, got {count} in the header "
                f"{','.join(header)[:200]!r}; delete or rename the others"
            )


def _number(text: str | None, column: str, *, where: str) -> float:
    if not NUMBER.fullmatch(text or "") or abs(float(text or "")) > LARGEST:
        raise InputError(
            f"{where}: expected a finite number that float32 holds in column "
            f"{column!r}, got {text!r}"
        )
    return float(text or "")
