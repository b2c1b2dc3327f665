"""Housing.csv: 545 houses, whose price is predicted from five numbers.

"Housing Prices Dataset", Kaggle, 2022,
https://www.kaggle.com/datasets/yasserh/housing-prices-dataset.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnjax.base.errors import InputError, shown
from cnnjax.data.dataset import Dataset
from cnnjax.data.files import (
    File,
    is_file,
    misspelled,
    read_file,
    search_folders,
)
from cnnjax.data.signatures import kind_of
from cnnjax.types import Examples

FILE = "Housing.csv"
INPUTS = ("area", "bedrooms", "bathrooms", "stories", "parking")
TARGET = "price"
OFFICIAL_ROWS = 545
# Of the six columns' numbers in float64, sorted by rows, so that a table that is
# quoted or ordered in another way is the same.
OFFICIAL_SHA256 = "883628490033b58ec7a33c6bf928726290bac27b06509d92243790ffab73ea1d"
MOST_BYTES = 2**22  # 4 MiB, 140 times the official table
MOST_IN_LINE, MOST_IN_CELL = 10_000, 100  # characters
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
    file = _read(_find(data_dir))
    path, table = file.path, _read_table(file, columns)
    _check_official(path, table)
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
        files={FILE: file.sha256},
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


def _read(path: Path) -> File:
    file = read_file(path, sizes=lambda _: range(MOST_BYTES + 1))
    if file.more or file.size > MOST_BYTES:
        raise InputError(
            f"{path}: expected a table of at most {MOST_BYTES} bytes, got "
            f"{file.counted}; {kind_of(file.content).way_out}"
        )
    return file


def _check_official(path: Path, table: np.ndarray) -> None:
    """Raise InputError if a table has as many rows as the official one, but others."""
    if len(table) != OFFICIAL_ROWS:
        return
    in_order = np.ascontiguousarray(table[np.lexsort(table.T)], "<f8")
    if (got := hashlib.sha256(in_order.tobytes()).hexdigest()) != OFFICIAL_SHA256:
        raise InputError(
            f"{path}: expected the numbers of the official table, which has as many "
            f"rows ({OFFICIAL_ROWS}; sha256 {OFFICIAL_SHA256[:12]}...), got others "
            f"({got[:12]}...); copy it again, or make a cnnjax.Dataset in Python"
        )


def _read_table(file: File, columns: tuple[str, ...]) -> np.ndarray:
    path, content = file.path, file.content
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
    del text  # the lines are decoded again, one by one, to save memory
    lines = _cells(path, io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig"))
    _, header = next(lines)
    names = [name.strip().lower() for name in header]
    _check_header(path, header, names, columns=columns)
    numbers = array("d")  # flat: a list of lists would need ten times the memory
    for where, cells in lines:
        if len(cells) > len(names):
            raise InputError(f"{where}: expected as many cells as the header")
        row = dict(zip(names, cells, strict=False))  # a short row lacks its last cells
        numbers.extend(_number(row.get(c), c, where=where) for c in columns)
    if not numbers:
        raise InputError(f"{path}: expected at least two rows, got an empty table")
    return np.frombuffer(numbers).reshape(-1, len(columns))


def _cells(path: Path, lines: io.TextIOBase) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the cells of each line; skip empty lines."""
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        if len(line) > MOST_IN_LINE:
            raise InputError(
                f"{where}: expected at most {MOST_IN_LINE} characters, got {len(line)}"
                f"; check that it is a table, {shown(line[:40])}"
            )
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
    cell = text or ""
    is_number = len(cell) <= MOST_IN_CELL and NUMBER.fullmatch(cell)
    if not is_number or abs(float(cell)) > LARGEST:
        raise InputError(
            f"{where}: expected a finite number that float32 holds in column "
            f"{column!r}, got {shown(text)}"
        )
    return float(cell)
