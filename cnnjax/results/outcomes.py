"""The score of a finished run, read back from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.base.errors import InputError, expect
from cnnjax.base.intake import read_text
from cnnjax.models.losses import LOSSES
from cnnjax.results import seal
from cnnjax.results.fields import field, lines_of, parse
from cnnjax.results.folders import folder_named
from cnnjax.results.predictions import Predicted, read_predictions
from cnnjax.results.schema import CONFIG, RESULT, SEED, Schema

METRICS = ("test_accuracy", "test_loss")  # a run's score is the first that it has
# Two programs may break ties between classes differently, so accuracy and predictions
# may differ by this share of the examples.
TIES = 0.005


class Outcome(NamedTuple):
    """The score of a run on its test examples, for each seed."""

    path: Path
    recipe: str
    dataset: str
    metric: str  # test_accuracy, a fraction; or test_loss, nats or squared units
    scores: Mapping[int, float]  # by seed
    # Seeds that diverged, and how many of their test examples have no prediction (the
    # score counts these as wrong). None: a regression, or a run without this count.
    diverged: Mapping[int, int | None]
    faults: tuple[str, ...]  # switched on deliberately
    settings: Mapping[str, Any]  # of its recipe, by path: "optimizer.l2"

    @property
    def regresses(self) -> bool:
        """Whether it predicts numbers, not classes."""
        loss = LOSSES.get(self.settings.get("loss", ""))
        return loss is not None and not loss.classifies


def read_outcome(path: str) -> Outcome:
    """Read config.json, result.json and, for a run of several seeds, seeds.jsonl.

    Raises:
        InputError: it is not the folder of a finished run; a file in it is damaged; or
            an accuracy is not from 0 to 1, or contradicts predictions.csv (the last
            two are allowed if the run has a fault).
    """
    folder = folder_named(path)
    expect("the folder of a run", path, folder.is_dir())
    if not (folder / "result.json").exists():
        started = (folder / "config.json").exists()
        what = "holds an unfinished run" if started else "holds no run of train.py"
        raise InputError(f"{path} {what}: it has no result.json")
    path_of_result = folder / RESULT.file
    result = parse(path_of_result, read_text(path_of_result))
    seal.check_result(path_of_result, result)
    seal.check_files(folder, result)
    source, schema, rows = path_of_result, RESULT, [result]
    if (folder / SEED.file).exists():
        source, schema = folder / SEED.file, SEED
        rows = [parse(source, line) for line in lines_of(source)]
        expect(f"at least one seed in {source}", 0, bool(rows))
    metric = next((name for name in METRICS if name in rows[0]), METRICS[-1])
    scores: dict[int, float] = {}
    diverged: dict[int, int | None] = {}
    for row in rows:
        seed = field(source, row, "seed", schema=schema)
        expect(f"each seed once in {source}", seed, seed not in scores)
        scores[seed] = _score(source, row, metric, schema=schema)
        lost, count = _divergence(source, row, schema=schema)
        if lost:
            diverged[seed] = count
    recipe, dataset = (
        field(path_of_result, result, name, schema=RESULT)
        for name in ("recipe", "dataset")
    )
    file = folder / CONFIG.file
    config = {"faults": [], "recipe": {}, **parse(file, read_text(file))}
    outcome = Outcome(
        path=folder,
        recipe=recipe,
        dataset=dataset,
        metric=metric,
        scores=scores,
        diverged=diverged,
        faults=tuple(field(file, config, "faults", schema=CONFIG)),
        settings=_settings(file, config),
    )
    if metric == "test_accuracy" and not outcome.faults:
        _check_accuracies(outcome, source)
    return outcome


def _score(
    source: Path, row: Mapping[str, Any], metric: str, *, schema: Schema
) -> float:
    """Return the score in a row; raise InputError if it is not finite."""
    of = f" of seed {row['seed']}"
    score = field(source, row, metric, schema=schema, of=of)
    expect(f"a finite {metric}{of} in {source}", score, math.isfinite(score))
    return score


def _divergence(
    source: Path, row: Mapping[str, Any], *, schema: Schema
) -> tuple[bool, int | None]:
    """Return whether a run diverged, and how many test examples it did not predict."""

    def of_row(name: str) -> Any:
        return field(source, row, name, schema=schema, of=f" of seed {row['seed']}")

    present = {name for name, value in row.items() if value is not None}
    lost = "diverged" in row and of_row("diverged")
    lost |= "test_loss" in row.keys() - present
    if "test_loss" in present:
        lost |= not math.isfinite(of_row("test_loss"))
    counted = "test_no_prediction" in present
    return lost, of_row("test_no_prediction") if counted else None


def _check_accuracies(outcome: Outcome, source: Path) -> None:
    """Raise InputError if an accuracy is impossible or contradicts the predictions."""
    for seed, score in outcome.scores.items():
        what = f"test_accuracy of seed {seed} in {source} to be from 0 to 1"
        expect(what, score, 0 <= score <= 1)
    if outcome.regresses or not (outcome.path / "predictions.csv").exists():
        return
    for seed, rows in predictions_of(outcome).items():
        right = sum(label == own for label, own in rows.values())
        uncounted = outcome.diverged.get(seed, 0) is None
        if not uncounted and abs(right / len(rows) - outcome.scores[seed]) > TIES:
            raise InputError(
                f"expected test_accuracy of seed {seed} in {source} to be that of "
                f"predictions.csv, {right} of {len(rows)} right, got "
                f"{outcome.scores[seed]}; a file was edited: train that run again"
            )


def differences(a: Outcome, b: Outcome) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two runs differ, by path; None: not in that run."""
    paths = dict.fromkeys([*a.settings, *b.settings])
    pairs = {path: (a.settings.get(path), b.settings.get(path)) for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def dead_classes(
    labels: Sequence[int] | np.ndarray, predictions: Sequence[int] | np.ndarray
) -> list[int]:
    """Return the classes in the test labels that are never predicted.

    `types.NO_PREDICTION` counts as predicting no class.

    >>> dead_classes([0, 1, 2, 2], [1, 1, 3, 1])
    [0, 2]
    """
    return np.setdiff1d(labels, predictions).tolist()


def predictions_of(outcome: Outcome) -> dict[int, Predicted]:
    """Return the predictions of a run, by seed.

    Raises:
        InputError: it is a regression, or predictions.csv is missing or damaged.
    """
    if outcome.regresses:
        raise InputError(
            f"{outcome.path} is a regression, which predicts no classes to pair; "
            "train several seeds of each (--num_seeds), and compare their means"
        )
    return read_predictions(outcome.path, seeds=outcome.scores)


def _settings(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    settings = by_path(field(path, config, "recipe", schema=CONFIG))
    for name, value in settings.items():
        holds = not isinstance(value, float) or math.isfinite(value)
        expect(f"a finite {name} in {path}", value, holds)
    return settings


def by_path(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested settings; a recipe's name and summary are left out.

    >>> by_path({"name": "a", "epochs": 2, "optimizer": {"l2": 0.0}})
    {'epochs': 2, 'optimizer.l2': 0.0}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, list):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, dict):
            flat |= {f"{name}.{path}": own for path, own in by_path(value).items()}
        elif name not in ("name", "summary"):
            flat[name] = value
    return flat
