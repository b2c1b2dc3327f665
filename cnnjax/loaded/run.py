"""A run as a value: what it was, what it has learned, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from cnnjax.base.arguments import named
from cnnjax.base.errors import expect
from cnnjax.data.checks import check_dataset
from cnnjax.data.dataset import Dataset
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.judging import make_test
from cnnjax.experiments.matching import check_pixels, check_shapes
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipe import Recipe
from cnnjax.experiments.runs import Run
from cnnjax.loaded.continuing import expect_plain, go_on, newest_state
from cnnjax.loaded.evaluation import Evaluation, built, outputs_of
from cnnjax.loaded.inputs import as_examples, is_single
from cnnjax.loaded.parts import PARTS, Part, data_of, examples_of
from cnnjax.loaded.reading import Settings, choose_seed, read_params, read_settings
from cnnjax.models.stack import layer_rows
from cnnjax.results.fields import field, read_epochs, read_result
from cnnjax.results.folders import folder_named, shown_path
from cnnjax.results.schema import RESULT
from cnnjax.strategies import NO_OPTIONS, Options
from cnnjax.training.loop import LoopState
from cnnjax.types import HostParams


class LoadedRun(NamedTuple):
    """One seed of a run, read back from its folder."""

    path: Path
    seed: int
    settings: Settings
    params: HostParams
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

    @property
    def classifies(self) -> bool:
        """Whether it predicts classes, not numbers."""
        return built(self.recipe).predict is not None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes; numbers where no name is known."""
        count = layer_rows(self.recipe.model)[-1].output_shape[0]
        known = self.settings.class_names
        return known if len(known) == count else tuple(map(str, range(count)))

    @property
    def apply_fn(self) -> Callable[..., Array]:
        """Return the network: `apply_fn(params, raw example) -> outputs`."""
        apply_fn = built(self.recipe).apply_fn
        assert apply_fn is not None
        return apply_fn

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
        return outputs_of(self.apply_fn, self.params, as_examples(self.recipe, images))

    def predict(self, images: Num[ArrayLike, "..."]) -> np.ndarray | np.integer:
        """Return the class of an example (int), or of each of several; see `outputs`.

        NO_PREDICTION, -1, where the logits define none. Of a regression: the targets.
        """
        single = is_single(self.recipe, images)
        outputs = self.outputs(images)
        found = self._of(outputs).predictions if self.classifies else outputs
        return found[0] if single else found

    def probabilities(self, images: Num[ArrayLike, "..."]) -> Float[np.ndarray, "..."]:
        """Return the probability of each class, for an example or each of several.

        Raises:
            InputError: as `outputs`; or the run is a regression.
        """
        expect("a run that predicts classes", self.recipe.loss, self.classifies)
        single = is_single(self.recipe, images)
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
        part is what the recipe's split and seed leave to the test; "validation" what is
        held out to be looked at meanwhile; "train" is the rest, and "all" is all.

        Raises:
            InputError: the data set is missing, does not fit, or has changed since.
        """
        named(PARTS)("part", part)
        dataset = check_dataset(data_of(self.path, self.settings, dataset, data_dir))
        check_shapes(self.recipe, dataset)
        examples = examples_of(self.recipe, dataset, self.seed, part)
        check_pixels(self.recipe, examples.inputs, part=part)
        experiment = self._prepared(self.recipe, dataset)._replace(test=examples)
        params = jax.device_put(self.params)
        measured = make_test(experiment)(self.recipe.epochs, params)
        outputs = outputs_of(experiment.apply_fn, params, examples.inputs)
        return Evaluation(measured["loss"], *examples, outputs, dataset.class_names)

    def confusion(self, dataset: Dataset | None = None, **where: Any) -> np.ndarray:
        """Return how often each class was taken for each: `evaluate(...).confusion`.

        Rows are classes, columns what was predicted; the last: no prediction.

        Raises:
            InputError: as `evaluate`; or the run is a regression.
        """
        expect("a run that predicts classes", self.recipe.loss, self.classifies)
        return self.evaluate(dataset, **where).confusion

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
                that is missing, has changed since, or does not fit.
        """
        dataset = data_of(self.path, self.settings, dataset, data_dir)
        longer = self._prepared(override(self.recipe, epochs=epochs), dataset)
        return go_on(self.path, self.settings, longer, done=len(self.epochs))

    def training(
        self, dataset: Dataset | None = None, *, data_dir: str | None = None
    ) -> tuple[Experiment, LoopState]:
        """Return its experiment once more, and the newest state that it has kept.

        Raises:
            InputError: as `continue_`; the run has faults or several seeds.
        """
        expect_plain(self.settings)
        dataset = data_of(self.path, self.settings, dataset, data_dir)
        experiment = self._prepared(self.recipe, dataset)
        return experiment, newest_state(self.path, self.settings, experiment)

    def _of(self, outputs: np.ndarray) -> Evaluation:
        none = np.zeros(len(outputs), int)
        return Evaluation(np.nan, none, none, outputs, self.class_names)

    def _prepared(self, recipe: Recipe, dataset: Dataset) -> Experiment:
        size = self.settings.microbatch_size
        options = NO_OPTIONS if size is None else Options(None, microbatch_size=size)
        return prepare(recipe, dataset, seed=self.seed, options=options)


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
