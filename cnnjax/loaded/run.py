"""A run as a value: what it was, what it has learned, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import ArrayLike, Float, Num

from cnnjax.base.arguments import at_least, instance_of, named, optional
from cnnjax.base.errors import InputError, expect
from cnnjax.base.settings import check_settings
from cnnjax.checkpoints.snapshot import restore
from cnnjax.checkpoints.store import Store
from cnnjax.data import load_dataset
from cnnjax.data.arrays import as_array, as_held
from cnnjax.data.checks import check_dataset
from cnnjax.data.dataset import Dataset
from cnnjax.data.fingerprints import changed, fingerprint
from cnnjax.data.splits import split_dataset
from cnnjax.experiments.beginning import same_rates
from cnnjax.experiments.ended import state_like
from cnnjax.experiments.experiment import Experiment, keys_of, objective_of, prepare
from cnnjax.experiments.matching import check_pixels, check_shapes
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipe import Recipe
from cnnjax.experiments.runs import Run, make_test, run
from cnnjax.faults import switch_in
from cnnjax.loaded.evaluation import Evaluation, outputs_of
from cnnjax.loaded.reading import Settings, choose_seed, read_params, read_settings
from cnnjax.results.fields import field, read_epochs, read_result
from cnnjax.results.folders import folder_named, shown_path
from cnnjax.results.schema import RESULT
from cnnjax.results.workdir import CHECKPOINTS
from cnnjax.strategies import NO_OPTIONS, Options
from cnnjax.types import Examples, Params

Part = Literal["test", "train", "all"]


class LoadedRun(NamedTuple):
    """One seed of a run, read back from its folder."""

    path: Path
    seed: int
    settings: Settings
    params: Params
    source: str  # of the parameters: params.safetensors, or a checkpoint
    epochs: Sequence[Mapping[str, Any]]  # lines of metrics.jsonl, of this seed
    result: Mapping[str, Any] | None  # result.json; None: the run is not finished

    @property
    def recipe(self) -> Recipe:
        """Return all settings of the training."""
        return self.settings.recipe

    @property
    def environment(self) -> Mapping[str, Any]:
        """Return versions and machine of the training; empty: it is not finished."""
        return (self.result or {}).get("environment", {})

    def outputs(
        self, images: Num[ArrayLike, "..."]
    ) -> Float[np.ndarray, "examples outputs"]:
        """Return the logits, or the predicted targets, of raw examples.

        One example, or several stacked along a first axis. Grey images may be
        [height, width]. Pixels are from 0 to 255, as in the data that it was trained
        on, uint8 or float; the recipe scales them itself.

        Raises:
            InputError: another shape, other pixels, or a JAX setting under which this
                cannot run.
        """
        return outputs_of(self._objective().apply_fn, self.params, self._held(images))

    def predict(self, images: Num[ArrayLike, "..."]) -> np.ndarray:
        """Return the class of an example (int), or of each of several; see `outputs`.

        NO_PREDICTION, -1, where the logits define none. Of a regression: the targets.
        """
        single = self._is_single(as_array(images, "images").shape)
        outputs = self.outputs(images)
        found = self._of(outputs).predictions if self._classifies else outputs
        return found[0] if single else found

    def probabilities(self, images: Num[ArrayLike, "..."]) -> Float[np.ndarray, "..."]:
        """Return the probability of each class, for an example or each of several.

        Raises:
            InputError: as `outputs`; or the run is a regression.
        """
        expect("a run that predicts classes", self.recipe.loss, self._classifies)
        single = self._is_single(as_array(images, "images").shape)
        found = self._of(self.outputs(images)).probabilities
        return found[0] if single else found

    def evaluate(
        self,
        dataset: Dataset | None = None,
        *,
        data_dir: str | None = None,
        part: Part = "test",
    ) -> Evaluation:
        """Evaluate on the examples of a data set that training left out.

        Without a data set, on the one that it was trained on, read again. The "test"
        part is what the recipe's split and seed leave to the test; "train" is the rest,
        and "all" is both.

        Raises:
            InputError: the data set is missing, does not fit, or has changed since.
        """
        named(get_args(Part))("part", part)
        optional(instance_of(Dataset))("dataset (see load_dataset)", dataset)
        if dataset is None:
            dataset = load_dataset(self.recipe.dataset, data_dir=data_dir)
            before = self.settings.data
            told = changed(before, fingerprint(dataset)) if before else None
            if told is not None:
                raise InputError(
                    f"{shown_path(self.path)} was trained on other data: {told}; name "
                    "the data set to evaluate on it all the same"
                )
        dataset = check_dataset(dataset)
        check_shapes(self.recipe, dataset)
        examples = self._examples(dataset, part)
        check_pixels(self.recipe, examples.inputs, part=part)
        experiment = self._prepared(self.recipe, dataset)._replace(test=examples)
        measured = make_test(experiment)(self.recipe.epochs, self.params)
        outputs = outputs_of(experiment.apply_fn, self.params, examples.inputs)
        return Evaluation(
            measured["loss"], examples.labels, outputs, dataset.class_names
        )

    def continue_(
        self,
        *,
        epochs: int,
        dataset: Dataset | None = None,
        data_dir: str | None = None,
    ) -> Run:
        """Train on from the newest checkpoint, until so many epochs are done in all.

        The folder is not written; `train.py --epochs=N --workdir=...` does that.

        Raises:
            InputError: fewer epochs than are done, no checkpoint to go on from, or data
                that is missing or does not fit.
        """
        done = len(self.epochs)
        epochs = at_least(0)("epochs", epochs)
        expect(
            f"epochs of at least {done}, those that are done", epochs, epochs >= done
        )
        if dataset is None:
            dataset = load_dataset(self.recipe.dataset, data_dir=data_dir)
        experiment = self._prepared(override(self.recipe, epochs=epochs), dataset)
        experiment = switch_in(experiment, self.settings.faults)
        if not same_rates(experiment, self.recipe.epochs):
            raise InputError(
                f"the learning rate of {shown_path(self.path)} depends on its "
                f"{self.recipe.epochs} epochs: it cannot go on to {epochs}"
            )
        store = Store(self.path / CHECKPOINTS, sweep=False)
        damaged: list[str] = []
        found = store.newest(on_damaged=damaged.append)
        if found is None or self.settings.seeds[1:]:
            why = f" ({'; '.join(damaged)})" if damaged else ""
            raise InputError(
                f"{shown_path(self.path)} has no checkpoint to go on from{why}"
            )
        like = state_like([experiment])
        at = restore(found.snapshot, like=like, keys=experiment.keys)
        return run(experiment, resume=at)

    @property
    def _classifies(self) -> bool:
        return self._objective().predict is not None

    def _objective(self):
        return objective_of(self.recipe)

    def _of(self, outputs: np.ndarray) -> Evaluation:
        names = tuple(map(str, range(outputs.shape[1])))
        return Evaluation(np.nan, np.zeros(len(outputs), int), outputs, names)

    def _is_single(self, shape: tuple[int, ...]) -> bool:
        own = self.recipe.model.input_shape
        return shape in (own, own[:-1] if own[-1] == 1 else own)

    def _held(self, images: Num[ArrayLike, "..."]) -> np.ndarray:
        check_settings()
        inputs, own = as_array(images, "images"), self.recipe.model.input_shape
        if own[-1] == 1 and inputs.shape[-len(own) + 1 :] == own[:-1]:
            inputs = inputs[..., None]
        single = inputs.shape == own
        inputs = inputs[None] if single else inputs
        fits = inputs.shape[1:] == own
        expect(f"one example of shape {own}, or several", inputs.shape, fits)
        inputs = as_held(inputs, "images")
        check_pixels(self.recipe, inputs, part="given", may_be_dark=True)
        return inputs

    def _prepared(self, recipe: Recipe, dataset: Dataset) -> Experiment:
        size = self.settings.microbatch_size
        options = NO_OPTIONS if size is None else Options(None, microbatch_size=size)
        return prepare(recipe, dataset, seed=self.seed, options=options)

    def _examples(self, dataset: Dataset, part: Part) -> Examples:
        key = keys_of(self.seed).split
        train, test = split_dataset(dataset, self.recipe.split, key=key)
        if part == "all":
            both = zip(train, test, strict=True)
            return Examples(*(np.concatenate(pair) for pair in both))
        return train if part == "train" else test


def load_run(path: str | Path, *, seed: int | None = None) -> LoadedRun:
    """Read a run back from its folder: a finished one, or one with a checkpoint.

    Of a run of several seeds, `seed` says which. All files of a finished run are
    compared with their digests.

    Raises:
        InputError: it is not the folder of a run; a file is damaged, edited or missing;
            a setting is not one of ours; or no parameters are there.
    """
    folder = folder_named(str(path))
    settings = read_settings(folder)
    seed = choose_seed(folder, settings.seeds, seed)
    finished = (folder / "result.json").exists()
    result = read_result(shown_path(folder)) if finished else None
    if result is not None:
        field(shown_path(folder) / RESULT.file, result, "epochs", schema=RESULT)
    params, source = read_params(folder, settings, seed)
    logged = (folder / "metrics.jsonl").exists()
    rows = read_epochs(shown_path(folder)) if logged else []
    own = [row for row in rows if row.get("seed", seed) == seed]
    return LoadedRun(folder, seed, settings, params, source, own, result)
