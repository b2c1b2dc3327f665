"""predictions.csv: what a run predicts for each test example, read back."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from cnnjax.base.errors import InputError, expect, shown
from cnnjax.results.fields import lines_of
from cnnjax.results.schema import PREDICTIONS

Predicted = dict[int, tuple[int, int]]  # (label, prediction), by example
FOUR_NUMBERS = re.compile(",".join([r"(-?\d{1,10})"] * 4), re.ASCII)


def read_predictions(folder: Path, *, seeds: Container[int]) -> dict[int, Predicted]:
    """Return the predictions of each seed of a run; `seeds` are the seeds of the run.

    A prediction is `types.NO_PREDICTION`, -1, where the network predicts no class.

    Raises:
        InputError: the file is missing, or one of its lines is damaged.
    """
    path = folder / "predictions.csv"
    if not path.exists():
        raise InputError(f"{folder} has no predictions.csv; train that run again")
    header, *lines = lines_of(path) or [""]
    expect(f"the columns {PREDICTIONS} in {path}", header, header == PREDICTIONS)
    expect(f"at least one test example in {path}", 0, bool(lines))
    by_seed: dict[int, Predicted] = {}
    for number, line in enumerate(lines, start=2):
        where = f"in line {number} of {path}"
        cells = FOUR_NUMBERS.fullmatch(line)
        if cells is None:
            raise InputError(f"expected four whole numbers {where}, got {shown(line)}")
        seed, example, label, prediction = map(int, cells.groups())
        expect(f"the seed of the run {where}", seed, seed in seeds)
        rows = by_seed.setdefault(seed, {})
        expect(f"each example once {where}", example, example not in rows)
        rows[example] = (label, prediction)
    return by_seed
