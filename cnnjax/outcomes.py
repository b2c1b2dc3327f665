"""What a finished run scored, read back from the folder that it left."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from cnnjax.errors import InputError, expect
from cnnjax.workdir import folder_named

METRICS = ("test_accuracy", "test_loss")  # the first that a run has is its score
HEADER = ["seed", "example", "label", "prediction"]


class Outcome(NamedTuple):
    """The score of a run on its test examples, seed by seed."""

    path: Path
    recipe: str
    dataset: str
    metric: str  # test_accuracy, a fraction; or test_loss, nats or squared units
    scores: Mapping[int, float]  # by seed
    # Seeds that diverged, and how many of their test examples have no prediction, which
    # their scores count as wrong. None: a regression, or a run that did not count them.
    diverged: Mapping[int, int | None]
    faults: tuple[str, ...]  # switched in on purpose
    settings: Mapping[str, Any]  # of its recipe, by their paths: "optimizer.l2"

    @property
    def regresses(self) -> bool:
        """Whether it predicts numbers, and no classes."""
        return self.settings.get("loss") == "mean_squared_error"


class PairedPredictions(NamedTuple):
    """What two runs of one seed each say of the same test examples.

    A prediction is `types.NO_PREDICTION`, -1, where the network predicts no class.
    """

    labels: Int[np.ndarray, " examples"]
    predictions_a: Int[np.ndarray, " examples"]
    predictions_b: Int[np.ndarray, " examples"]


def read_outcome(path: str) -> Outcome:
    """Read config.json, result.json, and seeds.jsonl where the run was of many seeds.

    Raises:
        InputError: it is no folder of a finished run, or a file in it is damaged.
    """
    folder = folder_named(path)
    expect("the folder of a run", path, folder.is_dir())
    if not (folder / "result.json").exists():
        started = (folder / "config.json").exists()
        what = "is of an unfinished run" if started else "holds no run of train.py"
        raise InputError(f"{path} {what}: it has no result.json")
    result = _parse(folder / "result.json", _read_text(folder / "result.json"))
    rows = [result]
    seeds = folder / "seeds.jsonl"
    if seeds.exists():
        rows = [_parse(seeds, line) for line in _read_text(seeds).splitlines()]
        expect(f"at least one seed in {seeds}", 0, bool(rows))
    metric = next((name for name in METRICS if name in rows[0]), METRICS[-1])
    source = seeds if seeds.exists() else folder / "result.json"
    scores: dict[int, float] = {}
    diverged: dict[int, int | None] = {}
    for row in rows:
        seed = _field(source, row, "seed", int)
        expect(f"each seed once in {source}", seed, seed not in scores)
        score = _field(source, row, metric, float, of=f" of seed {seed}")
        what = f"a finite {metric} of seed {seed} in {source}"
        expect(what, score, math.isfinite(score))
        scores[seed] = score
        if row.get("diverged", False) or _not_finite(row.get("test_loss", 0.0)):
            counted = row.get("test_no_prediction") is not None
            diverged[seed] = (
                _field(source, row, "test_no_prediction", int) if counted else None
            )
    names = ("recipe", "dataset")
    recipe, dataset = (_field(folder / "result.json", result, n, str) for n in names)
    config = _parse(folder / "config.json", _read_text(folder / "config.json"))
    return Outcome(
        path=folder,
        recipe=recipe,
        dataset=dataset,
        metric=metric,
        scores=scores,
        diverged=diverged,
        faults=tuple(config.get("faults", ())),
        settings=_by_path(config.get("recipe", {})),
    )


def differences(a: Outcome, b: Outcome) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two runs differ, by path; None: it has none such."""
    paths = dict.fromkeys([*a.settings, *b.settings])
    pairs = {path: (a.settings.get(path), b.settings.get(path)) for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def dead_classes(
    labels: Sequence[int] | np.ndarray, predictions: Sequence[int] | np.ndarray
) -> list[int]:
    """Return the classes of test examples that are predicted for none of them.

    An example without a prediction (`types.NO_PREDICTION`) is predicted none.

    >>> dead_classes([0, 1, 2, 2], [1, 1, 3, 1])
    [0, 2]
    """
    return np.setdiff1d(labels, predictions).tolist()


def pair_predictions(a: Outcome, b: Outcome) -> PairedPredictions:
    """Read predictions.csv of two runs of one seed each, example by example.

    Raises:
        InputError: a file is missing or damaged, the runs are of a regression, or the
            test examples are not the same.
    """
    rows_a, rows_b = _read_predictions(a), _read_predictions(b)
    same = rows_a.keys() == rows_b.keys() and all(
        rows_a[example][0] == rows_b[example][0] for example in rows_a
    )
    if not same:
        raise InputError(
            f"{a.path} and {b.path} were tested on different examples; where a recipe "
            "holds examples out, the seed chooses them: train both with the same --seed"
        )
    return PairedPredictions(
        np.array([label for label, _ in rows_a.values()]),
        np.array([prediction for _, prediction in rows_a.values()]),
        np.array([rows_b[example][1] for example in rows_a]),
    )


def _not_finite(loss: Any) -> bool:
    return loss is None or (isinstance(loss, float) and not math.isfinite(loss))


def _read_predictions(outcome: Outcome) -> dict[int, tuple[int, int]]:
    """Return (label, prediction) by example."""
    path = outcome.path / "predictions.csv"
    if outcome.regresses:
        raise InputError(
            f"{outcome.path} is of a regression, which predicts no classes to pair; "
            "train several seeds of each (--num_seeds), and compare their means"
        )
    if not path.exists():
        raise InputError(f"{outcome.path} has no predictions.csv; train that run again")
    header, *lines = csv.reader(_read_text(path).splitlines() or [""])
    expect(f"the columns {HEADER} in {path}", header, header == HEADER)
    expect(f"at least one test example in {path}", 0, bool(lines))
    rows: dict[int, tuple[int, int]] = {}
    for number, line in enumerate(lines, start=2):
        try:
            seed, example, label, prediction = map(int, line)
        except ValueError as error:
            raise InputError(
                f"expected four whole numbers in line {number} of {path}, got {line}"
            ) from error
        where = f"in line {number} of {path}"
        expect(f"the seed of the run {where}", seed, seed in outcome.scores)
        expect(f"each example once {where}", example, example not in rows)
        rows[example] = (label, prediction)
    return rows


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: expected an object, got {text[:40]!r}")
    return value


def _by_path(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested settings out flat; what a recipe is called is none of them.

    >>> _by_path({"name": "a", "epochs": 2, "optimizer": {"l2": 0.0}})
    {'epochs': 2, 'optimizer.l2': 0.0}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, list):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, dict):
            flat |= {f"{name}.{path}": own for path, own in _by_path(value).items()}
        elif name not in ("name", "summary"):
            flat[name] = value
    return flat


def _field(
    path: Path, row: Mapping[str, Any], name: str, kind: type, *, of: str = ""
) -> Any:
    """Return a field of a run's file, of the type that train.py writes."""
    value = row.get(name)
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = whole or isinstance(value, float) if kind is float else whole
    if not (isinstance(value, str) if kind is str else fits):
        unknown = name in row and value is None and kind is float
        hint = "; null: it was not finite, and cannot be compared" if unknown else ""
        missing = "nothing" if name not in row else json.dumps(value)
        raise InputError(f"expected {name}{of} in {path}, got {missing}{hint}")
    return value
