"""Whether an example is like those that a network was trained on.

Two signs, for a network sees only what moves its outputs. An example is unlike if it is
farther from every known example (5,000 of training, at most), pixel by pixel, than all
but a few test examples are; or if its energy is lower: the logarithm of the sum of the
logits' exponentials, which is small where no class speaks (Liu et al., "Energy-based
out-of-distribution detection", 2020). Each sign is given for one test example in 200.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import scipy
from jaxtyping import Float, Num

from cnnjax.base.errors import expect
from cnnjax.data.checks import check_dataset
from cnnjax.data.dataset import Dataset
from cnnjax.experiments.matching import check_shapes
from cnnjax.loaded.parts import Part, data_of, examples_of
from cnnjax.loaded.run import LoadedRun

SHARE = 1 / 200  # of the test examples that a sign is given for
MOST_TRAIN, MOST_TEST = 5_000, 2_000  # examples that are compared
MOST_NUMBERS = 2**26  # of all that are known: 256 MiB

Sign = Literal["pixels", "outputs"]


class Likeness(NamedTuple):
    """What is known of the examples of a training; see `likeness_of`."""

    known: Float[np.ndarray, "examples pixels"]  # training examples, raw
    farthest: float  # squared distance to the nearest of them, of raw pixels
    lowest: float  # energy, in nats

    def unlike(
        self,
        examples: Num[np.ndarray, "n *example"],
        outputs: Float[np.ndarray, "n classes"],
    ) -> list[Sign | None]:
        """Return by what each raw example is unlike; None: it is like the others.

        Outputs that are not numbers are no sign.
        """
        far = _distances(examples, self.known) > self.farthest
        low = _energies(outputs) < self.lowest
        return [
            "pixels" if f else "outputs" if e else None
            for f, e in zip(far, low, strict=True)
        ]


def likeness_of(
    run: LoadedRun, dataset: Dataset | None = None, *, data_dir: str | None = None
) -> Likeness:
    """Learn from a run's own data set, read again, what its examples are like.

    Raises:
        InputError: the data set is missing, does not fit, or has changed since; or the
            run is a regression.
    """
    expect("a run that predicts classes", run.recipe.loss, run.classifies)
    dataset = check_dataset(data_of(run.path, run.settings, dataset, data_dir))
    check_shapes(run.recipe, dataset)
    train = _some(run, dataset, "train", MOST_TRAIN)
    test = _some(run, dataset, "test", MOST_TEST)
    known, energies = _flat(train), _energies(run.outputs(test))
    return Likeness(
        known,
        float(np.quantile(_distances(test, known), 1 - SHARE)),
        float(np.nanquantile(energies, SHARE))
        if np.isfinite(energies).any()
        else -np.inf,
    )


def _some(run: LoadedRun, dataset: Dataset, part: Part, most: int) -> np.ndarray:
    inputs = examples_of(run.recipe, dataset, run.seed, part).inputs
    most = max(1, min(most, MOST_NUMBERS // inputs[0].size))
    return inputs[np.random.default_rng(0).permutation(len(inputs))[:most]]


def _flat(examples: np.ndarray) -> np.ndarray:
    return examples.reshape(len(examples), -1).astype(np.float32)


def _distances(examples: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the squared distance of each example to the nearest that is known."""
    own = _flat(examples)
    squares = _squares(own)[:, None] + _squares(known)
    return (squares - 2 * own @ known.T).min(axis=1)


def _squares(flat: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", flat, flat)


def _energies(outputs: np.ndarray) -> np.ndarray:
    return np.asarray(scipy.special.logsumexp(outputs.astype(np.float64), axis=1))
