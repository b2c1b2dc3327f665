"""Exports compute what the network computes, in a process without this library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax import export
from safetensors.numpy import load_file
from test_loaded import small, trained

from cnnjax.base.errors import InputError
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import RECIPES
from cnnjax.laws.comparison import largest_error
from cnnjax.loaded import load_run, parts
from cnnjax.loaded.exports import (
    export_run,
    formats,
    fresh,
    numpy_form,
    onnx_form,
    stablehlo,
)
from cnnjax.loaded.inputs import examples_to_try
from cnnjax.models.stack import Activation, Conv, Dense, Flatten
from cnnjax.results.checkpoints.snapshot import like_tree, named
from cnnjax.training.step import init_state, make_train_step
from cnnjax.types import Batch

pytestmark = pytest.mark.xdist_group("exports")
QUICK = ("sgd_dropout_cnn",)


@pytest.fixture(autouse=True)
def same_flags(monkeypatch):
    """Compile in fresh processes as in this one."""
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS_OF_TESTS"])


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Return a loaded run of a published recipe, trained a little."""
    runs = {}

    def run_of(name: str):
        if name not in runs:
            folder = tmp_path_factory.mktemp("run") / "run"
            trained(folder, *small(name))
            runs[name] = load_run(folder)
        return runs[name]

    return run_of


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES],
)
def test_every_recipe_is_exported_and_is_the_same(name, run_of, tmp_path):
    made = export_run(run_of(name), tmp_path / "to", ["stablehlo", "numpy"])
    assert [one.format for one in made] == ["stablehlo", "numpy"]
    assert made[0].error == 0.0
    assert made[1].error <= 1e-5
    assert all(path.exists() for one in made for path in one.files)


def test_parameters_are_the_same_bits(run_of, tmp_path):
    (made,) = export_run(run_of(QUICK[0]), tmp_path, ["safetensors"])
    assert made.error == 0.0


def test_a_program_takes_any_number_of_examples(run_of):
    run = run_of("sgd_dropout_cnn")
    program = export.deserialize(bytearray(stablehlo.forward(run, dtype="uint8")))
    assert program.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 7):
        images = examples_to_try(run.recipe, count)
        expected = run.outputs(images)
        np.testing.assert_allclose(program.call(images), expected, rtol=1e-4, atol=1e-5)


def test_a_training_step_is_that_of_the_library():
    """Parameters, optimizer state and loss, over three updates."""
    recipe, dataset = small("adam_cosine_cnn")
    experiment = prepare(override(recipe, strategy="jit"), dataset)
    program = stablehlo.train_step(experiment)
    assert program.platforms == ("cpu", "cuda", "tpu")
    state = init_state(experiment.params, experiment.optimizer)
    step = jax.jit(
        make_train_step(experiment.strategy.value_and_grad, experiment.optimizer)
    )
    inputs, labels = (part[:8] for part in experiment.train)
    leaves = stablehlo.leaves_of(state)
    for _ in range(3):
        leaves, loss = program.call(leaves, inputs, labels, np.uint32(0))
        batch = Batch(inputs, labels, weights=np.ones(8, np.float32), keys=None)
        state, metrics = step(state, batch)
        assert float(loss) == pytest.approx(float(metrics.means["loss"]), rel=1e-6)
    exported = like_tree(state, leaves, "state")
    assert largest_error(exported.params, state.params) <= 1e-6
    assert int(exported.step) == int(state.step) == 3


def test_a_training_step_goes_on_where_the_run_was(run_of, tmp_path, monkeypatch):
    """With its moments and its count of updates."""
    run = run_of("adam_cosine_cnn")
    _, dataset = small("adam_cosine_cnn")
    monkeypatch.setattr(parts, "load_dataset", lambda *_, **__: dataset)
    (made,) = export_run(run, tmp_path, ["train_step"])
    assert made.error <= 1e-5
    state = load_file(tmp_path / "state.safetensors")
    assert state["state/step"] == 5  # 40 examples, batches of 8
    for name, leaf in named(run.params).items():
        np.testing.assert_array_equal(state[f"state/params/{name}"], leaf)
    _, at = run.training()
    kept = named({"opt_state": at.state.opt_state})
    moments = [name for name in kept if kept[name].ndim > 1]
    assert len(moments) == 6  # two of each kernel
    for name in kept:
        np.testing.assert_array_equal(state[f"state/{name}"], kept[name])
    assert all(np.any(kept[name]) for name in moments)


def test_a_training_step_draws_what_the_librarys_does(run_of, tmp_path, monkeypatch):
    """Dropout, whatever JAX's default generator is."""
    run = run_of("sgd_dropout_cnn")
    _, dataset = small("sgd_dropout_cnn")
    monkeypatch.setattr(parts, "load_dataset", lambda *_, **__: dataset)
    with jax.default_prng_impl("rbg"):
        (made,) = export_run(run, tmp_path, ["train_step"])
    assert made.error <= 1e-5


def test_a_training_with_faults_is_not_exported(run_of, tmp_path):
    run = run_of("sgd_dropout_cnn")
    faulty = run._replace(settings=run.settings._replace(faults=("weights_ignored",)))
    with pytest.raises(InputError, match="a run without faults, got"):
        export_run(faulty, tmp_path, ["train_step"])
    several = run._replace(settings=run.settings._replace(seeds=(0, 1)))
    with pytest.raises(InputError, match="a run of one seed, got 'one of 2'"):
        export_run(several, tmp_path, ["train_step"])


def test_outputs_that_are_no_numbers_are_not_exported(run_of, tmp_path):
    run = run_of("sgd_dropout_cnn")
    broken = run._replace(params=jax.tree.map(lambda a: a * np.nan, run.params))
    with pytest.raises(InputError, match="numpy: finite outputs"):
        export_run(broken, tmp_path, ["numpy"])


def test_a_training_step_needs_a_checkpoint(run_of, tmp_path, monkeypatch):
    run = run_of("sgd_dropout_cnn")
    _, dataset = small("sgd_dropout_cnn")
    monkeypatch.setattr(parts, "load_dataset", lambda *_, **__: dataset)
    copy = shutil.copytree(run.path, tmp_path / "run")
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match="run has no checkpoint to go on from"):
        export_run(load_run(copy), tmp_path / "to", ["train_step"])


def test_a_step_that_is_not_the_librarys_is_refused(run_of, tmp_path, monkeypatch):
    """Mistake: the program updates with a gradient of half the size."""
    run, (_, dataset) = run_of("sgd_dropout_cnn"), small("sgd_dropout_cnn")
    monkeypatch.setattr(parts, "load_dataset", lambda *_, **__: dataset)
    make = stablehlo.train_step

    def wrong(experiment):
        init, update = experiment.optimizer

        def halved(gradient, *state):
            return update(jax.tree.map(lambda leaf: leaf / 2, gradient), *state)

        optimizer = optax.GradientTransformation(init, halved)
        return make(experiment._replace(optimizer=optimizer))

    monkeypatch.setattr(stablehlo, "train_step", wrong)
    with pytest.raises(InputError, match="train_step: .* something else"):
        export_run(run, tmp_path, ["train_step"])


def test_an_export_that_computes_something_else_is_refused(
    run_of, tmp_path, monkeypatch
):
    """Mistake: the padding is lost on the way."""
    wrong = {**numpy_form.FUNCTIONS, "relu": "np.abs(x)"}
    monkeypatch.setattr(numpy_form, "FUNCTIONS", wrong)
    with pytest.raises(InputError, match="numpy: what was written .* something else"):
        export_run(run_of("sgd_dropout_cnn"), tmp_path, ["numpy"])


def test_an_export_that_cannot_be_loaded_is_refused(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_form, "HEAD", "this is no Python")
    with pytest.raises(InputError, match="numpy: what was written cannot be loaded"):
        export_run(run_of("sgd_dropout_cnn"), tmp_path, ["numpy"])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_export_that_fails_leaves_the_one_before(run_of, tmp_path, monkeypatch):
    """Mistake: what computes something else lies there, and is used."""
    run = run_of("sgd_dropout_cnn")
    export_run(run, tmp_path, ["numpy"])
    before = contents(tmp_path)
    export_run(run, tmp_path, ["numpy"])
    assert contents(tmp_path) == before
    monkeypatch.setattr(numpy_form, "HEAD", "this is no Python")
    with pytest.raises(InputError, match="cannot be loaded"):
        export_run(run, tmp_path, ["numpy"], overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("form", ["numpy", "safetensors", "stablehlo"])
def test_another_export_is_not_replaced_unasked(form, run_of, tmp_path):
    run = run_of("sgd_dropout_cnn")
    other = run._replace(params=jax.tree.map(lambda a: a + 1, run.params))
    export_run(run, tmp_path, [form])
    before = contents(tmp_path)
    with pytest.raises(InputError, match="is of another export; .* --overwrite"):
        export_run(other, tmp_path, [form])
    assert contents(tmp_path) == before
    export_run(other, tmp_path, [form], overwrite=True)
    assert contents(tmp_path) != before


def test_an_export_does_not_touch_another_run(run_of, tmp_path):
    """Mistake: --to=runs/a, which is a run, loses its own parameters."""
    run = run_of("sgd_dropout_cnn")
    other = run._replace(params=jax.tree.map(lambda a: a + 1, run.params))
    to = shutil.copytree(run.path, tmp_path / "run")
    before = contents(to)
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is of another run; choose another --to$"):
            export_run(other, to, ["safetensors"], overwrite=overwrite)
    export_run(run, to, ["safetensors"])  # its own: the same bytes
    assert contents(to) == before
    load_run(to)


def test_a_page_of_numpy_needs_nothing_else(run_of, tmp_path):
    """Not JAX, and not this library."""
    export_run(run_of("sgd_dropout_cnn"), tmp_path, ["numpy"])
    program = "import sys, network; print(sorted({m.split('.')[0] for m in sys.modules}"
    program += " & {'jax', 'cnnjax', 'scipy', 'torch'}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_unknown_formats_and_other_types_are_refused(run_of, tmp_path):
    run = run_of("sgd_dropout_cnn")
    with pytest.raises(InputError, match="unknown format 'onxx'; did you mean onnx"):
        export_run(run, tmp_path, ["onxx"])
    half = replace(run.recipe, model=replace(run.recipe.model, dtype="bfloat16"))
    with pytest.raises(InputError, match="a network in float32 for NumPy, got bfloat"):
        numpy_form.source_of(half, classifies=True)
    assert set(fresh.READERS) == set(formats.FORMATS)


def test_a_layer_of_another_kind_is_refused(run_of):
    run = run_of("sgd_dropout_cnn")
    odd = replace(run.recipe.model, layers=(Flatten(), Odd(), Dense(10)))
    with pytest.raises(InputError, match="expected a layer of ours for NumPy, got"):
        numpy_form.source_of(replace(run.recipe, model=odd), classifies=True)


class Odd:
    kind = "odd"

    def sizes(self, shape):
        return Activation("relu").sizes(shape)

    def function(self, x):
        return x


@pytest.mark.parametrize(
    "name", [QUICK[0], pytest.param("sgd_wide_cnn", marks=pytest.mark.slow)]
)
def test_the_form_for_onnx_is_the_network(name, run_of):
    """ONNX itself is an extra: here, the function that is converted."""
    run = run_of(name)
    images = examples_to_try(run.recipe, 5)
    got = jax.jit(lambda images: onnx_form.batched(run, images))(images)
    expected = run.outputs(images)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_without_the_packages_onnx_is_refused_in_a_line(run_of, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[onnx\]'"):
        export_run(run_of(QUICK[0]), tmp_path, ["onnx"])


def test_padding_is_part_of_the_page(run_of):
    run = run_of(QUICK[0])
    padded = replace(
        run.recipe.model, layers=(Conv(2, 3, padding=1), Flatten(), Dense(10))
    )
    page = numpy_form.source_of(replace(run.recipe, model=padded), classifies=True)
    assert 'x = conv(x, "conv_0", 1, 1)' in page
