"""What a finished run scored, read back from the folder that it left."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from cnnjax.base.errors import InputError, expect, shown
from cnnjax.models.losses import LOSSES
from cnnjax.results.fields import field, parse, read_text
from cnnjax.results.workdir import folder_named

METRICS = ("test_accuracy", "test_loss")  # the first that a run has is its score
HEADER = "seed,example,label,prediction"
# Two programs may decide a tie in two ways, so accuracy and predictions may differ by
# this share of the examples.
TIES = 0.005


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
        loss = LOSSES.get(self.settings.get("loss", ""))
        return loss is not None and not loss.classifies


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
        InputError: it is no folder of a finished run, a file in it is damaged, or an
            accuracy is none, or not that of predictions.csv (faults may make it so).
    """
    folder = folder_named(path)
    expect("the folder of a run", path, folder.is_dir())
    if not (folder / "result.json").exists():
        started = (folder / "config.json").exists()
        what = "is of an unfinished run" if started else "holds no run of train.py"
        raise InputError(f"{path} {what}: it has no result.json")
    result = parse(folder / "result.json", read_text(folder / "result.json"))
    rows = [result]
    seeds = folder / "seeds.jsonl"
    if seeds.exists():
        rows = [parse(seeds, line) for line in read_text(seeds).splitlines()]
        expect(f"at least one seed in {seeds}", 0, bool(rows))
    metric = next((name for name in METRICS if name in rows[0]), METRICS[-1])
    source = seeds if seeds.exists() else folder / "result.json"
    scores: dict[int, float] = {}
    diverged: dict[int, int | None] = {}
    for row in rows:
        seed = field(source, row, "seed", int)
        expect(f"each seed once in {source}", seed, seed not in scores)
        of = f" of seed {seed}"
        score = field(source, row, metric, float, of=of)
        what = f"a finite {metric} of seed {seed} in {source}"
        expect(what, score, math.isfinite(score))
        scores[seed] = score
        present = {name for name, value in row.items() if value is not None}
        lost = "diverged" in row and field(source, row, "diverged", bool, of=of)
        lost |= "test_loss" in row.keys() - present
        if "test_loss" in present:
            lost |= not math.isfinite(field(source, row, "test_loss", float, of=of))
        count = None
        if "test_no_prediction" in present:
            count = field(source, row, "test_no_prediction", int, of=of)
        if lost:
            diverged[seed] = count
    names = ("recipe", "dataset")
    recipe, dataset = (field(folder / "result.json", result, n, str) for n in names)
    file = folder / "config.json"
    config = {"faults": [], "recipe": {}, **parse(file, read_text(file))}
    outcome = Outcome(
        path=folder,
        recipe=recipe,
        dataset=dataset,
        metric=metric,
        scores=scores,
        diverged=diverged,
        faults=tuple(field(file, config, "faults", list)),
        settings=_settings(file, config),
    )
    if metric == "test_accuracy" and not outcome.faults:
        _check_accuracies(outcome, source)
    return outcome


def _check_accuracies(outcome: Outcome, source: Path) -> None:
    """Raise InputError for an accuracy that is none, or contradicts the predictions."""
    for seed, score in outcome.scores.items():
        what = f"test_accuracy of seed {seed} in {source} to be from 0 to 1"
        expect(what, score, 0 <= score <= 1)
    if outcome.regresses or not (outcome.path / "predictions.csv").exists():
        return
    for seed, rows in _read_predictions(outcome).items():
        right = sum(label == own for label, own in rows.values())
        uncounted = outcome.diverged.get(seed, 0) is None
        if not uncounted and abs(right / len(rows) - outcome.scores[seed]) > TIES:
            raise InputError(
                f"expected test_accuracy of seed {seed} in {source} to be that of "
                f"predictions.csv, {right} of {len(rows)} right, got "
                f"{outcome.scores[seed]}; one was edited: train that run again"
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
        InputError: a file is missing or damaged, a run is of a regression or of many
            seeds, or the test examples are not the same.
    """
    for each in (a, b):
        expect(
            f"a run of one seed in {each.path}", len(each.scores), len(each.scores) == 1
        )
    (rows_a,), (rows_b,) = (_read_predictions(each).values() for each in (a, b))
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


def _read_predictions(outcome: Outcome) -> dict[int, dict[int, tuple[int, int]]]:
    """Return (label, prediction) by example, by seed."""
    path = outcome.path / "predictions.csv"
    if outcome.regresses:
        raise InputError(
            f"{outcome.path} is of a regression, which predicts no classes to pair; "
            "train several seeds of each (--num_seeds), and compare their means"
        )
    if not path.exists():
        raise InputError(f"{outcome.path} has no predictions.csv; train that run again")
    header, *lines = read_text(path).splitlines() or [""]
    expect(f"the columns {HEADER} in {path}", header, header == HEADER)
    expect(f"at least one test example in {path}", 0, bool(lines))
    by_seed: dict[int, dict[int, tuple[int, int]]] = {}
    four = re.compile(",".join([r"(-?\d{1,10})"] * 4), re.ASCII)
    for number, line in enumerate(lines, start=2):
        where = f"in line {number} of {path}"
        cells = four.fullmatch(line)
        if cells is None:
            raise InputError(f"expected four whole numbers {where}, got {shown(line)}")
        seed, example, label, prediction = map(int, cells.groups())
        expect(f"the seed of the run {where}", seed, seed in outcome.scores)
        rows = by_seed.setdefault(seed, {})
        expect(f"each example once {where}", example, example not in rows)
        rows[example] = (label, prediction)
    return by_seed


def _settings(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    settings = _by_path(field(path, config, "recipe", dict))
    for name, value in settings.items():
        holds = not isinstance(value, float) or math.isfinite(value)
        expect(f"a finite {name} in {path}", value, holds)
    return settings


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
