"""Housing.csv: 545 houses, a price to be predicted from five numbers.

"Housing Prices Dataset", Kaggle, 2022,
https://www.kaggle.com/datasets/yasserh/housing-prices-dataset.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.data.files import search_folders
from cnnjax.errors import InputError
from cnnjax.types import Examples

FILE = "Housing.csv"
INPUTS = ("area", "bedrooms", "bathrooms", "stories", "parking")
TARGET = "price"


def load_housing(data_dir: str | None = None) -> Dataset:
    """Read the table, every column mapped to 0..1 over all of its rows.

    x = (value - min) / (max - min), min and max of the whole table, as system B does:
    rows that are held out later have taken part in them. There is no test set.

    Returns:
        float32 inputs [545, 5] and float32 targets [545, 1].

    Raises:
        InputError: the file is missing, lacks a column, or holds a value that cannot
            be used.
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
        if (folder / FILE).is_file():
            return folder / FILE
    raise InputError(f"expected {FILE} in {folders[0]} or {folders[1]}, got none")


def _read_table(path: Path, columns: tuple[str, ...]) -> np.ndarray:
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: expected columns {', '.join(columns)}, missing "
                    f"{', '.join(missing)}"
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:  # where the csv module puts cells without a header
                    raise InputError(f"{where}: expected as many cells as the header")
                rows.append([_number(row[c], c, where=where) for c in columns])
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not rows:
        raise InputError(f"{path}: expected at least two rows, got an empty table")
    return np.array(rows, np.float64)


def _number(text: str | None, column: str, *, where: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(
            f"{where}: expected a finite number in column {column!r}, got {text!r}"
        )
    return number
