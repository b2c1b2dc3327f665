"""The published numbers: complete, of runs that can be made, and listed by a script."""

from __future__ import annotations

import functools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnjax.base.errors import InputError
from cnnjax.data.preprocessing import Identity, MinMaxPerImage, Standardize
from cnnjax.data.splits import HoldOut
from cnnjax.experiments.fastest import plain_form
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import get_recipe
from cnnjax.faults import Setting, get_fault, unmet
from cnnjax.models.initializers import INITIALIZERS
from cnnjax.models.stack import layer_rows
from cnnjax.strategies import NO_OPTIONS
from cnnjax.studies.published import SYSTEMS, get_system
from cnnjax.studies.published.bias_only import bias_only_curve
from cnnjax.training.optimizers import make_schedule
from cnnjax.training.updates import LoopConfig

ROOT = Path(__file__).parent.parent
RUNS = [
    pytest.param(system, run, id=f"{system.letter}-{run.name}")
    for system in SYSTEMS.values()
    for run in system.runs
]
FIGURES = [
    pytest.param(run, figure, id=f"{system.letter}-{run.name}-{index}")
    for system in SYSTEMS.values()
    for run in system.runs
    for index, figure in enumerate(run.figures)
]
# Training examples, test examples.
SIZES = {"mnist": (60_000, 10_000), "housing": (545, 0), "cifar10": (50_000, 10_000)}
# Of the MNIST training set, in its order.
FIRST_100_LABELS = (
    *(5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1, 7, 2, 8, 6, 9, 4, 0, 9, 1, 1),
    *(2, 4, 3, 2, 7, 3, 8, 6, 9, 0, 5, 6, 0, 7, 6, 1, 8, 7, 9, 3, 9, 8, 5, 9, 3),
    *(3, 0, 7, 4, 9, 8, 0, 9, 4, 1, 4, 4, 6, 0, 4, 5, 6, 1, 0, 0, 1, 7, 1, 6, 3),
    *(0, 2, 1, 1, 7, 9, 0, 2, 6, 7, 8, 3, 9, 0, 4, 6, 7, 4, 6, 8, 0, 7, 8, 3, 1),
)
# Mean and standard deviation of all training pixels / 255, channel by channel. MNIST:
# https://github.com/pytorch/examples/blob/main/mnist/main.py has four digits of them;
# CIFAR-10: https://github.com/kuangliu/pytorch-cifar/issues/19.
PIXELS = {
    "mnist": ([0.13066], [0.30811]),
    "cifar10": ([0.491400, 0.482158, 0.446531], [0.247032, 0.243485, 0.261588]),
}


def num_examples(recipe):
    """Return how many examples a recipe trains and tests on."""
    train, test = SIZES[recipe.dataset]
    if isinstance(recipe.split, HoldOut):
        test = round(train * recipe.split.fraction)
        train -= test
    return recipe.num_train or train, test


def loop_of(recipe):
    train, _ = num_examples(recipe)
    return LoopConfig(
        batch_size=recipe.batch_size or train,
        epochs=recipe.epochs,
        shuffle=recipe.shuffle,
    )


@pytest.mark.parametrize(("system", "run"), RUNS)
def test_a_run_can_be_made(system, run):
    recipe = run.settled()
    train, test = num_examples(recipe)
    strategy = plain_form(NO_OPTIONS) if run.faults else recipe.strategy
    setting = Setting(
        strategy=strategy,
        num_devices=1,
        model=recipe.model,
        loss=recipe.loss,
        loop=loop_of(recipe),
        num_train=train,
        num_test=test,
        holds_out=isinstance(recipe.split, HoldOut),
    )
    for name in run.faults:
        assert unmet(get_fault(name), setting) is None
    assert run.seeds >= 1
    assert run.quick_epochs is None or 1 <= run.quick_epochs < recipe.epochs
    assert len(run.explanation.split()) > 10
    if run.corrects is not None:
        assert system.run(run.corrects).faults
        assert not run.faults


def test_names_are_letters_and_unique():
    assert list(SYSTEMS) == ["A", "B", "C", "D", "E"]
    for letter, system in SYSTEMS.items():
        assert get_system(letter) is system
        assert system.letter == letter
        names = [run.name for run in system.runs]
        assert len(set(names)) == len(names)


def test_unknown_names_are_told_the_nearest():
    with pytest.raises(InputError, match="unknown system 'F'; known: A, B, C, D, E"):
        get_system("F")
    with pytest.raises(InputError, match="of system A 'seral'; did you mean serial"):
        get_system("A").run("seral")


METRICS = {
    *("train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"),
    *("learning_rate", "step", "train_seconds", "compile_seconds"),
    *("examples_per_second", "parameters", "macs_per_example"),
}
EACH_EPOCH = {
    *("train_loss", "train_accuracy", "test_loss", "test_accuracy"),
    *("seconds", "learning_rate", "step"),
}


@pytest.mark.parametrize(("run", "figure"), FIGURES)
def test_a_figure_says_where_it_is_found(run, figure):
    recipe = run.settled()
    assert figure.metric in METRICS
    assert figure.what
    assert (figure.epoch is not None) == (figure.metric in EACH_EPOCH)
    # A run may end before what was published of it (system E's overflows).
    last = max(recipe.epochs, get_recipe(run.recipe).epochs)
    assert figure.epoch is None or 1 <= figure.epoch <= last
    assert figure.value is not None or figure.band is not None
    if figure.metric.startswith("test_"):  # tested then
        every = run.evaluate_every
        assert figure.epoch == recipe.epochs or (every and figure.epoch % every == 0)
    if figure.band is None:
        return
    low, high = figure.band
    assert 0 <= low <= high < math.inf
    if figure.metric.endswith("accuracy"):
        assert high <= 1
    rows = layer_rows(recipe.model)
    train, _ = num_examples(recipe)
    steps = -(-train // loop_of(recipe).batch_size)
    schedule = make_schedule(recipe.optimizer, steps_per_epoch=steps)
    exact = {
        "parameters": sum(row.parameters for row in rows),
        "macs_per_example": sum(row.macs for row in rows),
        "step": steps * (figure.epoch or 0),
        "learning_rate": float(schedule(steps * ((figure.epoch or 1) - 1))),
    }
    if figure.metric in exact:
        assert low <= exact[figure.metric] <= high
    elif figure.value is not None:
        assert low <= figure.value <= high


# Every number of the reports' tables and texts, in the units that they print.
STATED = {
    "A": (
        *(96.05, 96.62, 96.50, 97.70, 97.66, 0.2700, 0.1017, 0.0630, 0.0402, 0.0271),
        *(95.73, 0.2718, 47.19, 60.61, 62.90, 62.96, 66.81, 2.4094, 2.3968),
        *(95.4, 96.4, 97.6, 97.8, 97.7, 96.9, 97.2, 97.4, 96.7, 97.3, 97.5, 97.9),
        *(398.08, 112.75, 127, 150, 535, 468, 603, 2_129, 1_890, 535_818),
        *(79.87, 80.72, 78.32, 79.55, 79.62, 21.48, 21.74, 22.71, 22.64, 24.18),
        *(24.46, 25.05, 24.86, 24.93, 24.97),
    ),
    "B": (
        *(0.0233, 95.66, 57, 0.0, 0.1608, 56.73, 42.75e3, 0.02e9, 0.015110, 46.74),
        *(1_838.7, 1.58e6, 1.59e9, 0.000380, 45.92, 1_859.5, 0.166, 0.297),
        *(48, 42_304, 1_577_984, 1_737_984, 42_753, 1_578_506, 1_738_890),
        *(0.0565, 0.0157, 0.012, 0.039, 0.022, 46, 47, 45.9),
    ),
    "C": (
        *(11.61, 8.78, 8.73, 8.60, 116, 87, 172, 15, 1, 0, 96.66, 98.49, 90.10, 21.19),
        *(225_034, 7_500, 1.4612, 2.4612),
    ),
    "D": (
        *(0.2594, 0.0983, 0.0757, 0.0674, 0.0585, 0.0477, 0.0418, 0.0412, 0.0408),
        *(0.0331, 92.58, 97.04, 97.64, 97.91, 98.21, 98.50, 98.71, 98.66, 99.00),
        *(98.68, 1_556.7, 300, 805_066, 1.431e6, 938, 1.0e-3, 5.82e-4),
    ),
    "E": (
        *(23.025835661401747, 23.013186, 21.4295, 13.860, 0.789),
        *(0.00014451810090409874, 23.0258357, 23.013185, 21.4298, 13.867, 0.827),
        *(1.796e-4, 5, 22_669_526, 1 / 66, 1 / 20),
    ),
}


def stated(letter):
    """Return all values and ends of bands of a system, as its report prints them."""
    found = set()
    for run in SYSTEMS[letter].runs:
        for figure in run.figures:
            scale = 100 if figure.metric.endswith("accuracy") else 1
            if letter == "E" and figure.metric == "train_loss":
                scale = 10  # the report's error is ten times our mean
            numbers = [figure.value, *(figure.band or ())]
            found |= {scale * n for n in numbers if n is not None}
    return np.array(sorted(n for n in found if not math.isnan(n)))


@pytest.mark.parametrize("letter", STATED)
def test_every_published_number_is_there(letter):
    found = stated(letter)
    missing = [
        number
        for number in STATED[letter]
        if not np.isclose(found, number, rtol=5e-5 if letter == "C" else 1e-9).any()
    ]
    assert missing == []


def test_losses_that_were_printed_as_nan_are_nan():
    run = get_system("A").run("per_sample_shared_activations")
    losses = [f.value for f in run.figures if f.metric == "train_loss"]
    assert [math.isnan(loss) for loss in losses] == [True, True, True, False, False]


def test_ten_biases_alone_have_the_published_curve():
    errors = bias_only_curve(FIRST_100_LABELS, epochs=73)
    np.testing.assert_allclose(errors[0], 23.025835661401747, rtol=1e-9)
    at = [10, 30, 40, 60, 72]
    stated = [23.013185, 21.4298, 13.867, 0.827, 1.796e-4]
    np.testing.assert_allclose(errors[at], stated, rtol=1e-3)
    published = [23.013186, 21.4295, 13.860, 0.789, 1.4451810090409874e-4]
    np.testing.assert_allclose(errors[[0, *at[:3]]], [errors[0], *published[:3]], 1e-3)
    np.testing.assert_allclose(errors[60], published[3], rtol=0.05)
    np.testing.assert_allclose(errors[72], published[4], rtol=0.25)


def test_the_curve_is_that_of_the_wrong_sign():
    right = bias_only_curve(FIRST_100_LABELS, epochs=73, learning_rate=-0.001)
    assert right[-1] > 22.9  # no network, no certainty


def test_an_initializer_is_chosen_by_name():
    recipe = get_recipe("sgd_wide_cnn")
    for name, initializer in INITIALIZERS.items():
        assert override(recipe, initializer=name).model.initializer == initializer
    with pytest.raises(InputError, match="unknown initializer 'he_norm'; did you mean"):
        override(recipe, initializer="he_norm")


FLAGS_MAKE_THE_RUN = """
import sys
sys.path.insert(0, "scripts")
import _asked, train
from absl import flags
from absl.testing import flagsaver
from cnnjax.studies.published import SYSTEMS
for system in SYSTEMS.values():
    for run in system.runs:
        with flagsaver.flagsaver():
            rest = flags.FLAGS(["train.py", *run.flags()])
            assert rest == ["train.py"], rest
            assert _asked.recipe_from_flags() == run.settled(), run.name
            assert tuple(flags.FLAGS.fault) == run.faults, run.name
            assert flags.FLAGS.evaluate_every == run.evaluate_every, run.name
print("all")
"""


def test_the_flags_of_a_run_make_the_run():
    done = subprocess.run(
        [sys.executable, "-c", FLAGS_MAKE_THE_RUN],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.stdout == "all\n", done.stderr


@pytest.fixture
def list_recipes(forks, tmp_path):
    return functools.partial(forks.run, ROOT / "scripts" / "recipes.py", cwd=tmp_path)


def test_the_script_lists_recipes_and_runs(list_recipes):
    done = list_recipes("--systems=A,D", "--figures")
    assert done.returncode == 0, done.stderr
    assert "adam_cosine_cnn" in done.stdout
    assert "test accuracy, epoch 10: 98.68 %  [reported]" in done.stdout
    assert "parameters: 535,818, exactly 535,818  [reported]" in done.stdout
    flags = "--recipe=adam_cosine_cnn --dataset=mnist --fault=overwritten_conv_gradient"
    assert max(map(len, done.stdout.splitlines())) <= 80
    pasted = re.sub(r" \\\n +", " ", done.stdout)
    assert f"python scripts/train.py {flags}\n" in pasted
    assert "IPU" not in done.stdout


def test_the_script_speaks_json(list_recipes):
    done = list_recipes("--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(RUNS)
    names = [(line["system"], line["name"]) for line in lines]
    assert names == [(p.values[0].letter, p.values[1].name) for p in RUNS]
    shared = lines[names.index(("A", "per_sample_shared_activations"))]
    assert "nan" in [figure["value"] for figure in shared["figures"]]


@pytest.mark.parametrize(
    "flags", [["--systems=A,F"], ["--json", "--figures"], ["again"]]
)
def test_the_script_refuses_in_one_line(flags, list_recipes):
    done = list_recipes(*flags)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_the_findings_python_runs(tmp_path, capsys):
    """Its table is of the real Housing.csv; here of five houses, told by hand."""
    rows = ("200,2,1,1,1,0", "100,1,1,1,1,0", "300,3,1,2,2,1", "400,5,2,2,1,2")
    rows = ("price,area,bedrooms,bathrooms,stories,parking", *rows, "500,4,2,3,2,1")
    (tmp_path / "Housing.csv").write_text("\n".join(rows))
    findings = (ROOT / "docs" / "findings.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", findings, re.S)
    exec(block.replace('"DIR"', repr(str(tmp_path))), {})
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    # Prices 0.25, 0.5, 0.75, 1: ratios of 0.1 are 0.4, 0.2, 0.1333, 0.1.
    assert told[0][0] == "20.8%"
    # Of the mean, 0.625: 2.5, 1.25, 0.8333, 0.625 -> 0.5, 0.75, 0.8333, 0.625.
    assert told[2] == ["67.7%", "0.00"]
    assert told[3][0] == "91.7%"  # 4, 2, 1.3333, 1 -> 2, 0, 0.6667, 1
    assert len(told) == 5


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("sgd_dropout_cnn", "mnist"),
        ("tanh_mlp_cifar10_shallow", "cifar10"),
        ("tanh_mlp_cifar10_deep", "cifar10"),
    ],
)
def test_pixels_are_scaled_by_what_they_are(name, dataset):
    recipe = get_recipe(name)
    assert recipe.dataset == dataset
    scale = recipe.preprocessing
    for ours, exact in zip((scale.mean, scale.std), PIXELS[dataset], strict=True):
        assert list(ours) == pytest.approx(exact, abs=5.1e-5)  # in four digits


def test_the_other_recipes_scale_as_published():
    for name in ("adam_cosine_cnn", "momentum_mlp_serial", "momentum_mlp_per_sample"):
        assert get_recipe(name).preprocessing == Standardize((0.0,), (1.0,))
    for name in ("tanh_mlp_housing_narrow", "tanh_mlp_housing_wide"):
        assert get_recipe(name).preprocessing == Identity()
    assert get_recipe("sgd_wide_cnn").preprocessing == MinMaxPerImage()
