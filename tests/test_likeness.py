"""Whether an example is like the training data: two signs, and how often they come."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from test_loaded import small, trained

import cnnjax
from cnnjax.base.errors import InputError
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import RECIPES
from cnnjax.loaded import likeness, load_run
from cnnjax.loaded.likeness import Likeness, likeness_of
from cnnjax.loaded.parts import examples_of

pytestmark = pytest.mark.xdist_group("loaded")


@pytest.fixture(scope="module")
def digits():
    return cnnjax.load_dataset("digits")


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("likeness") / "run"
    small = replace(RECIPES["momentum_mlp_per_sample"], dataset="digits")
    trained(folder, override(small, epochs=1, batch_size=32, num_train=None), digits)
    return load_run(folder)


def shares(run, known, images) -> dict[str | None, float]:
    signs = known.unlike(images, run.outputs(images))
    return {
        sign: signs.count(sign) / len(signs) for sign in (None, "pixels", "outputs")
    }


def test_few_of_its_own_examples_are_unlike_and_all_noise_is(run, digits):
    known = likeness_of(run)
    own = shares(run, known, images_of_the_test(run, digits))
    assert 0 < own["pixels"] <= 0.01
    assert own["outputs"] <= 0.01
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1)).astype(np.uint8)
    for images in (noise, 255 - noise // 4):
        assert shares(run, known, images)["pixels"] == 1.0
    train = examples_of(run.recipe, digits, 0, "train").inputs
    assert shares(run, known, train)["pixels"] == 0.0


def images_of_the_test(run, digits):
    return examples_of(run.recipe, digits, 0, "test").inputs


def test_signs_follow_their_definitions():
    """By NumPy: distance to the nearest example, energy; and what is no number."""
    known = Likeness(np.array([[0.0, 0.0], [3.0, 4.0]], np.float32), 4.0, 1.0)
    examples = np.array([[0.0, 2.0], [0.0, 2.1], [3.0, 4.0], [1.0, 0.0]])
    quiet, loud = [0.0, 0.0], [1.0, 0.0]  # energies 0.693 and 1.313
    outputs = np.array([loud, loud, quiet, [np.nan, 0.0]])
    assert known.unlike(examples, outputs) == [None, "pixels", "outputs", None]


def test_the_signs_come_from_the_test_examples(run, digits):
    """The largest distance that is allowed is reached by some test example."""
    known = likeness_of(run, digits)
    test = images_of_the_test(run, digits).reshape(-1, 784).astype(float)
    far = [np.square(known.known - one).sum(1).min() for one in test]
    assert np.quantile(far, 0.995) == pytest.approx(known.farthest, rel=1e-4)
    sums = np.exp(run.outputs(images_of_the_test(run, digits)).astype(float)).sum(1)
    assert np.quantile(np.log(sums), 0.005) == pytest.approx(known.lowest, rel=1e-5)


def test_not_more_are_compared_than_said(run, digits, monkeypatch):
    monkeypatch.setattr(likeness, "MOST_TRAIN", 50)
    assert likeness_of(run, digits).known.shape == (50, 784)
    monkeypatch.setattr(likeness, "MOST_NUMBERS", 784 * 7)
    assert likeness_of(run, digits).known.shape == (7, 784)


def test_where_outputs_are_no_numbers_only_pixels_are_a_sign(run, digits):
    broken = run._replace(params=jax.tree.map(lambda a: a * np.nan, run.params))
    known = likeness_of(broken, digits)
    own = shares(broken, known, images_of_the_test(run, digits))
    assert own["outputs"] == 0.0
    assert own[None] > 0.98


def test_a_regression_has_no_likeness(tmp_path):
    recipe, dataset = small("tanh_mlp_housing_narrow")
    trained(tmp_path / "run", recipe, dataset)
    with pytest.raises(InputError, match="expected a run that predicts classes"):
        likeness_of(load_run(tmp_path / "run"), dataset)


def test_other_data_are_refused(run, digits, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    config["data"] = dict.fromkeys(config["data"], "0" * 64)
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "result.json").unlink()
    with pytest.raises(InputError, match="was trained on other data"):
        likeness_of(load_run(copy))
    assert likeness_of(load_run(copy), digits)
