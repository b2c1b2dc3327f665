"""A run that is read back from its folder is the run that was trained."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from batches import TINY, random_dataset
from safetensors.numpy import load_file
from sklearn import metrics

import cnnjax
from cnnjax.base.clock import Clock
from cnnjax.base.errors import InputError
from cnnjax.data.fingerprints import fingerprint
from cnnjax.experiments.described import recipe_of
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.overrides import override
from cnnjax.experiments.predictions import predict_test
from cnnjax.experiments.recipes import RECIPES
from cnnjax.experiments.runs import run
from cnnjax.laws.comparison import largest_error
from cnnjax.loaded import load_run
from cnnjax.loaded.evaluation import Evaluation
from cnnjax.loaded.exports import export_run
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.results.checkpoints.policy import Every
from cnnjax.results.checkpoints.store import Store
from cnnjax.results.environment import describe_environment
from cnnjax.results.plain import plain
from cnnjax.results.workdir import CHECKPOINTS, Workdir
from cnnjax.statistics import classification

pytestmark = pytest.mark.xdist_group("loaded")


def trained(folder: Path, recipe, dataset, *, seed: int = 0):
    """Train in a folder as train.py does, with a checkpoint at the end."""
    experiment = prepare(recipe, dataset, seed=seed)
    journal = Journal(
        workdir=Workdir(folder),
        experiment=experiment,
        seeds=(seed,),
        clock=Clock(),
        environment=describe_environment(),
        how={"evaluate_every": 1},
        data=fingerprint(dataset),
    )
    journal.start(["train.py"])
    store = Store(folder / CHECKPOINTS)
    keeper = Keeper(store, Every(epochs=1), facts=journal.about)
    ended = run(
        experiment,
        on_epoch=lambda record: journal.epoch(record, seed=seed),
        on_state=lambda at: keeper.on_state(at, experiment.keys, last=recipe.epochs),
        clock=journal.clock,
    )
    journal.end(ended.params, predict_test(experiment, ended.params))
    keeper.close()
    store.close()
    journal.result(ended, cache="off")
    return ended


def small(name: str):
    """A published recipe and few random examples for it."""
    recipe = override(replace(RECIPES[name], num_train=None), epochs=1, batch_size=8)
    return recipe, random_dataset(recipe, train=40, test=23)


@pytest.fixture(scope="module")
def digits():
    return cnnjax.load_dataset("digits")


@pytest.fixture(scope="module")
def learned(tmp_path_factory, digits):
    """A run that has learned something, and the folder that it is in."""
    recipe = override(
        RECIPES["momentum_mlp_per_sample"],
        dataset="digits",
        epochs=2,
        batch_size=32,
        strategy="jit",
    )
    folder = tmp_path_factory.mktemp("learned") / "run"
    return trained(folder, recipe, digits), folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_read_back_as_it_was(name):
    described = json.loads(json.dumps(plain(RECIPES[name])))
    assert recipe_of(described) == RECIPES[name]
    assert hash(recipe_of(described)) == hash(RECIPES[name])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "os.system"}, "recipe: expected one of Recipe, .*, got 'os.system'"),
        ({"type": ["Recipe"]}, "recipe: expected one of"),
        ({"layers": 3}, "recipe: Recipe has no field 'layers'"),
        ({"epochs": -1}, "recipe: expected epochs of at least 0, got -1"),
        ({"model": {"type": "Dense", "features": 3}}, "recipe: expected model of kind"),
        ({"loss": None}, "recipe: unknown loss None"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        recipe_of({**plain(RECIPES["adam_cosine_cnn"]), **change})


def test_a_description_that_lacks_something_is_refused():
    described = plain(RECIPES["adam_cosine_cnn"])
    del described["model"]["layers"]
    with pytest.raises(InputError, match=r"recipe\.model: ModelConfig lacks layers"):
        recipe_of(described)
    with pytest.raises(InputError, match="expected the description of a Recipe"):
        recipe_of({"type": "Dense", "features": 3})


QUICK = ("adam_cosine_cnn", "tanh_mlp_housing_narrow")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES],
)
def test_every_recipe_gives_the_same_test_again(name, tmp_path, monkeypatch):
    """To the last digit, from another folder, by another strategy."""
    recipe, dataset = small(name)
    ended = trained(tmp_path / "run", recipe, dataset)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = load_run("../moved")
    assert largest_error(loaded.params, ended.params) == 0.0
    other = "vmap" if loaded.recipe.strategy != "vmap" else "jit"
    recipe = override(loaded.recipe, strategy=other)
    again = loaded._replace(settings=loaded.settings._replace(recipe=recipe))
    for one in (loaded, again):
        found = one.evaluate(dataset)
        if found.classifies:
            assert found.accuracy == ended.test["accuracy"]
            assert found.accuracy == loaded.result["test_accuracy"]
        assert found.loss == pytest.approx(ended.test["loss"], rel=1e-5)
    assert loaded.evaluate(dataset).loss == ended.test["loss"]


def test_a_run_that_is_not_finished_has_its_newest_checkpoint(learned, tmp_path):
    ended, folder = learned
    copy = shutil.copytree(folder, tmp_path / "run")
    (copy / "result.json").unlink()
    (copy / "params.safetensors").unlink()
    loaded = load_run(copy)
    assert loaded.source == f"checkpoints/{Store(copy / CHECKPOINTS).names()[-1]}"
    assert loaded.result is None
    assert loaded.environment == {}
    assert largest_error(loaded.params, ended.params) == 0.0
    shutil.rmtree(copy / CHECKPOINTS)
    with pytest.raises(InputError, match=r"has no params\.safetensors and no good"):
        load_run(copy)


def test_the_average_of_a_run_is_read_and_goes_on(tmp_path):
    """Mistake: the parameters of its checkpoint, which were not tested."""
    recipe = override(TINY, strategy="jit", epochs=1, average_decay=0.9)
    dataset = random_dataset(recipe, train=40, test=23)
    folder = tmp_path / "run"
    ended = trained(folder, recipe, dataset)
    assert largest_error(load_run(folder).params, ended.params) == 0.0
    longer = load_run(folder).continue_(epochs=2, dataset=dataset)
    whole = run(prepare(override(recipe, epochs=2), dataset))
    assert largest_error(longer.params, whole.params) == 0.0
    (folder / "result.json").unlink()
    (folder / "params.safetensors").unlink()
    assert largest_error(load_run(folder).params, ended.params) == 0.0


def test_reading_changes_nothing(learned, tmp_path):
    """Also not what another program is just writing there."""
    copy = shutil.copytree(learned[1], tmp_path / "run")
    (copy / "result.json").unlink()
    (copy / CHECKPOINTS / "0000000-000000009-000000000.1a2b3c4d.partial").mkdir()
    before = sorted(map(str, copy.rglob("*")))
    load_run(copy)
    assert sorted(map(str, copy.rglob("*"))) == before


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("config.json", b"{", "config.json is "),
        ("params.safetensors", b"nonsense", "is not what the run wrote"),
        ("metrics.jsonl", b'{"epoch": 1}\n', "is not what the run wrote"),
        ("result.json", b"{}", "expected epochs in .*result.json to be a whole number"),
    ],
)
def test_a_damaged_file_is_named(name, damage, said, learned, tmp_path):
    copy = shutil.copytree(learned[1], tmp_path / "run")
    (copy / name).write_bytes(damage)
    with pytest.raises(InputError, match=said) as refused:
        load_run(copy)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_parameters_of_another_network_are_refused(learned, tmp_path):
    copy = shutil.copytree(learned[1], tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    config["recipe"]["model"]["layers"][-1]["features"] = 11
    (copy / "config.json").write_text(json.dumps(config))
    result = json.loads((copy / "result.json").read_text())
    del result["files"], result["digest"]
    (copy / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match=r"params\.safetensors is not of this network"):
        load_run(copy)


@pytest.mark.parametrize("path", ["nowhere", "file", "empty"])
def test_what_is_no_run_is_refused(path, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="folder|holds no run of train"):
        load_run(tmp_path / path)


def test_one_of_several_seeds_is_named(learned, tmp_path):
    copy = shutil.copytree(learned[1], tmp_path / "run")
    assert load_run(copy, seed=0).seed == 0
    with pytest.raises(InputError, match=r"seed=0 of .*run, got 4"):
        load_run(copy, seed=4)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "seeds": [0, 1]}))
    (copy / "result.json").unlink()
    with pytest.raises(InputError, match=r"expected seed=0, 1 of .*run, got None"):
        load_run(copy)
    with pytest.raises(InputError, match="holds several seeds, of which not all have"):
        load_run(copy, seed=1)


@pytest.mark.usefixtures("unchecked")  # nested lists are images as well
def test_predictions_are_those_of_the_run(learned, digits):
    """One image or many, of two axes or three, bytes or floats."""
    _, folder = learned
    loaded = load_run(folder)
    images = digits.train.inputs[:5]
    many = loaded.predict(images)
    assert many.shape == (5,)
    for held in (images, images[..., 0], images.astype(np.float64), images.tolist()):
        np.testing.assert_array_equal(loaded.predict(held), many)
        single = loaded.predict(np.asarray(held)[0])
        assert single == many[0]
        assert np.ndim(single) == 0
    shares = loaded.probabilities(images)
    assert shares.shape == (5, 10)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(shares.argmax(axis=1), many)
    assert loaded.probabilities(images[0]).shape == (10,)
    written = (folder / "predictions.csv").read_text().splitlines()[1:]
    own = [int(line.split(",")[3]) for line in written]
    np.testing.assert_array_equal(loaded.evaluate().predictions, own)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            np.zeros((20, 20)),
            r"expected one example of shape \(28, 28, 1\), or several",
        ),
        (np.zeros((0, 28, 28)), "expected at least one example, got 0"),
        (np.full((28, 28), 0.5), "divides pixels by 255"),
        (np.full((28, 28), np.nan), "images"),
        ("seven.png", "images: expected integers or floats"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, said, learned):
    with pytest.raises(InputError, match=said):
        load_run(learned[1]).predict(images)


def test_a_network_is_compiled_once(learned):
    """Mistake: a new function at each call, and a second of compiling."""
    one, other = load_run(learned[1]), load_run(learned[1])
    assert one.apply_fn is one.apply_fn
    assert one.apply_fn is other.apply_fn


def test_parts_of_a_data_set(learned, digits):
    loaded = load_run(learned[1])
    sizes = {p: len(loaded.evaluate(part=p).labels) for p in ("test", "train", "all")}
    assert sizes == {"test": 287, "train": 1150, "all": 1437}
    other = replace(digits, train=digits.train._replace(labels=digits.train.labels[:7]))
    with pytest.raises(InputError):
        loaded.evaluate(other)
    with pytest.raises(InputError, match="part"):
        loaded.evaluate(part="validation")


def test_other_data_of_that_name_is_told(learned, tmp_path):
    copy = shutil.copytree(learned[1], tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    config["data"]["training inputs"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(config))
    result = json.loads((copy / "result.json").read_text())
    del result["files"], result["digest"]
    (copy / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="was trained on other data: training inputs"):
        load_run(copy).evaluate()


def test_training_goes_on_as_if_it_had_never_ended(tmp_path):
    recipe, dataset = small("momentum_mlp_per_sample")
    recipe = override(recipe, strategy="jit", schedule="constant")
    trained(tmp_path / "short", recipe, dataset)
    longer = override(recipe, epochs=3)
    whole = trained(tmp_path / "long", longer, dataset)
    ended = load_run(tmp_path / "short").continue_(epochs=3, dataset=dataset)
    assert largest_error(ended.params, whole.params) == 0.0
    with pytest.raises(InputError, match="epochs of at least 3"):
        load_run(tmp_path / "long").continue_(epochs=2, dataset=dataset)
    shutil.rmtree(tmp_path / "long" / CHECKPOINTS)
    with pytest.raises(InputError, match="has no checkpoint to go on from"):
        load_run(tmp_path / "long").continue_(epochs=4, dataset=dataset)


def test_a_schedule_that_depends_on_the_epochs_cannot_go_on(tmp_path):
    recipe, dataset = small("adam_cosine_cnn")
    recipe = override(recipe, epochs=2, schedule="one_cycle")
    trained(tmp_path / "run", recipe, dataset)
    with pytest.raises(InputError, match="depends on its 2 epochs: it cannot go on"):
        load_run(tmp_path / "run").continue_(epochs=3, dataset=dataset)


# -- how good predictions are --------------------------------------------------------

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 300)
LOGITS = RNG.normal(size=(300, 4)) + 2 * np.eye(4)[LABELS] * RNG.integers(
    0, 2, (300, 1)
)
FOUND = Evaluation(0.5, LOGITS, LABELS, LOGITS, ("a", "b", "c", "d"))


def test_tables_are_those_of_scikit_learn():
    predicted = FOUND.predictions
    table = FOUND.confusion
    np.testing.assert_array_equal(
        table[:, :4], metrics.confusion_matrix(LABELS, predicted)
    )
    assert (table[:, 4] == 0).all()
    precision, recall, _, support = metrics.precision_recall_fscore_support(
        LABELS, predicted
    )
    np.testing.assert_allclose(FOUND.per_class.recall, recall)
    np.testing.assert_allclose(FOUND.per_class.precision, precision)
    np.testing.assert_array_equal(FOUND.per_class.support, support)
    assert FOUND.accuracy == metrics.accuracy_score(LABELS, predicted)


def test_what_has_no_prediction_is_wrong_and_counted():
    lost = np.array(LOGITS)
    lost[:10, 2] = np.nan
    found = FOUND._replace(outputs=lost)
    assert found.confusion[:, 4].sum() == 10
    assert found.confusion.sum() == 300
    assert found.right == np.sum(FOUND.predictions[10:] == LABELS[10:])
    assert found.to_json()["no_prediction"] == 10
    assert math.isfinite(found.calibration.error)
    assert found.calibration.count.sum() == 290
    assert set(range(10)) <= set(found.mistakes(300).tolist())


def test_a_class_that_nobody_has_has_no_recall():
    table = classification.confusion(
        np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=3
    )
    of = classification.per_class(table)
    np.testing.assert_array_equal(of.recall, [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(of.precision, [1.0, 0.5, np.nan])


def test_calibration_by_hand():
    """Two bins: 0.6 sure and half right, 0.9 sure and all right."""
    shares = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]])
    found = classification.calibration(shares, np.array([0, 1, 0, 1]), bins=5)
    assert found.error == pytest.approx((2 * 0.1 + 2 * 0.1) / 4)
    np.testing.assert_array_equal(found.count, [0, 0, 0, 2, 2])


def test_the_most_confident_mistakes_come_first():
    wrong = FOUND.mistakes(5)
    sure = FOUND.probabilities.max(axis=1)
    assert (FOUND.predictions[wrong] != LABELS[wrong]).all()
    assert sure[wrong].tolist() == sorted(sure[wrong], reverse=True)
    others = np.setdiff1d(np.flatnonzero(FOUND.predictions != LABELS), wrong)
    assert sure[others].max() <= sure[wrong].min()


def test_the_evaluation_is_json():
    assert json.loads(json.dumps(FOUND.to_json(), allow_nan=False))["right"] == int(
        FOUND.right
    )
    regression = Evaluation(0.5, LOGITS, LABELS[:, None] / 4, LOGITS[:, :1], ())
    assert regression.to_json() == {"examples": 300, "loss": 0.5}


@pytest.mark.parametrize(("right", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_shares_that_cannot_be_are_refused(right, total):
    with pytest.raises(InputError):
        classification.wilson(right, total)


def test_intervals_are_within_the_shares_that_can_be():
    assert classification.wilson(0, 5)[0] == 0.0
    assert classification.wilson(5, 5)[1] == pytest.approx(1.0)


def test_the_page_about_using_runs(learned, digits, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parent.parent / "docs" / "using.md").read_text()
    code, step = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copytree(learned[1], tmp_path / "runs" / "digits")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    first, *_ = capsys.readouterr().out.splitlines()
    accuracy = learned[0].test["accuracy"]
    assert first == f"2 2 {accuracy}"
    export_run(load_run("runs/digits"), Path("exported"), ["train_step"])
    inputs, labels = (part[:8] for part in digits.train)
    held = {"inputs": inputs, "labels": labels}
    exec(step, held)
    before = load_file("exported/state.safetensors")["state/step"]
    assert held["state"]["state/step"] == before + 10
    assert 0 < held["loss"] < 2.3


def test_devices_are_not_needed_to_predict(learned):
    """What is loaded is on the host until it is used."""
    leaves = jax.tree.leaves(load_run(learned[1]).params)
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
