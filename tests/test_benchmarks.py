"""The benchmarks: who is timed, who is refused, and what the report makes of it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import case as cases
import checks
import contenders
import jax
import machine
import numpy as np
import pytest
import reference
import tables
from contenders import ContenderError, Entry, Process
from peers import channels_first, flax_form, jax_case, nnx_form, ours, plain_numpy

from cnnjax.laws.comparison import largest_error

pytestmark = pytest.mark.xdist_group("benchmarks")
ROOT = Path(__file__).parent.parent
FORMS_BY_DEFAULT = (", microbatch 16", ", microbatch 32")


def run(script, *flags, cwd=ROOT):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *flags]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module", params=["adam_cosine_cnn", "sgd_dropout_cnn"])
def written(request, tmp_path_factory):
    """A case on digits, with what the serial reference makes of it."""
    folder = tmp_path_factory.mktemp("case")
    experiment = reference.prepare(
        request.param, batch_size=8, dataset=None, data_dir=None
    )
    reference.write(experiment, folder, data_dir=None)
    reference.write_examples(experiment, folder, with_test=True)
    return experiment, cases.read_case(folder)


def test_a_case_comes_back_as_it_was_written(written):
    experiment, case = written
    assert largest_error(case.params, jax.tree.map(np.asarray, experiment.params)) == 0
    assert case.batch_size == 8
    assert case.array("train_inputs").dtype == np.float32
    assert len(case.array("order")[0]) == len(case.array("train_labels"))
    assert [layer.kind for layer in case.layers][-1] == "dense"


@pytest.mark.parametrize(
    ("peer", "options"),
    [
        (plain_numpy, {}),
        (flax_form, {"loop": "scan"}),
        (flax_form, {"loop": "python"}),
        (nnx_form, {"loop": "scan"}),
        (nnx_form, {"loop": "python"}),
    ],
)
def test_a_peer_has_the_reference_gradient_and_trains(written, peer, options):
    experiment, case = written
    contender = peer.make(case, "mean", **options)
    expected = reference.results(experiment, {"mean"})["mean"]
    assert largest_error(jax.tree.map(np.asarray, contender.result()), expected) < 1e-5
    contender.run(3)
    assert largest_error(jax.tree.map(np.asarray, contender.result()), expected) < 1e-5


@pytest.mark.parametrize("loop", ["scan", "python"])
def test_equinox_has_the_reference_gradient_and_trains(written, loop):
    pytest.importorskip("equinox")
    from peers import equinox_form

    test_a_peer_has_the_reference_gradient_and_trains(
        written, equinox_form, {"loop": loop}
    )


@pytest.mark.filterwarnings("ignore:optax.global_norm is deprecated")  # jax_privacy
@pytest.mark.parametrize("task", ["norms", "clipped"])
@pytest.mark.parametrize("library", ["optax", "jax_privacy"])
def test_a_library_clips_as_the_reference(written, library, task):
    pytest.importorskip(library)
    peer = importlib.import_module(f"peers.{library}_clip")
    experiment, case = written
    contender = peer.make(case, task)
    expected = reference.results(experiment, {task})[task]
    assert ("each" in expected) == (task == "norms")
    for _ in range(2):  # from the same start, whatever it trained in between
        own = jax.tree.map(np.asarray, contender.result())
        assert largest_error(own, expected) < 1e-5
        contender.run(2)


@pytest.mark.parametrize(
    ("peer", "options"),
    [
        ("ours", {"strategy": "jit"}),
        ("ours", {"strategy": "factored"}),
        ("pytorch", {"form": "eager", "fused": True}),
        ("pytorch", {"form": "channels_last", "fused": True}),
    ],
)
def test_in_bfloat16_the_parameters_and_the_reference_stay_in_float32(
    written, peer, options
):
    if peer == "pytorch":
        pytest.importorskip("torch")
    experiment, case = written
    expected = reference.results(experiment, {"bfloat16"})["bfloat16"]
    assert largest_error(expected, reference.results(experiment, {"mean"})["mean"]) == 0
    contender = importlib.import_module(f"peers.{peer}").make(
        case, "bfloat16", **options
    )
    own = jax.tree.map(np.asarray, contender.result())
    assert {leaf.dtype.name for leaf in jax.tree.leaves(own)} == {"float32"}
    # If it were float32's arithmetic, the error would be 1e-6.
    assert 1e-4 < largest_error(own, expected) < 0.25
    contender.run(2)


def test_rows_in_bfloat16_are_held_to_its_own_tolerance(written):
    experiment, case = written
    expected = reference.results(experiment, {"mean", "bfloat16"})
    options = {"strategy": "jit", "precision": "bfloat16"}
    for task, held in (("bfloat16", True), ("mean", False)):
        entry = Entry(name="x", module="ours", task=task, options=options)
        process = Process(entry, case.folder)
        try:
            with contextlib.ExitStack() as stack:
                if not held:
                    stack.enter_context(pytest.raises(ContenderError, match="off by"))
                checks.checked(process, expected, folder=case.folder)
        finally:
            process.end()


@pytest.mark.parametrize("kernel", ["kernel", "weight"])
def test_optax_moves_their_parameters_as_our_optimizer(written, kernel):
    """L2 is of kernels, as each library names them, and of no bias."""
    experiment, case = written

    def named(tree):
        return {
            layer: {kernel: leaves["kernel"], "bias": leaves["bias"]}
            for layer, leaves in tree.items()
        }

    optimizer = jax_case.make_optimizer(case)
    ours, theirs = experiment.params, named(experiment.params)
    grads = experiment.params  # any tree of that shape
    state, own = experiment.optimizer.init(ours), optimizer.init(theirs)
    for _ in range(3):
        updates, state = experiment.optimizer.update(grads, state, ours)
        ours = jax.tree.map(lambda p, u: p + u, ours, updates)
        updates, own = optimizer.update(named(grads), own, theirs)
        theirs = jax.tree.map(lambda p, u: p + u, theirs, updates)
    told = [jax.tree.map(np.asarray, tree) for tree in (theirs, named(ours))]
    assert largest_error(*told) < 1e-5


def test_a_kernel_laid_out_channels_first_computes_the_same_and_comes_back(written):
    _, case = written
    last = None  # the shape that the flatten before a dense layer is given
    for layer in case.layers:
        if layer.name in case.params:
            kernel = case.params[layer.name]["kernel"]
            weight = channels_first.to_channels_first(case, layer.name, kernel)
            back = channels_first.from_channels_first(case, layer.name, weight)
            np.testing.assert_array_equal(back, kernel)
            if last is not None:
                x = np.random.default_rng(0).normal(size=last)
                theirs = weight @ x.transpose(2, 0, 1).ravel()
                np.testing.assert_allclose(theirs, x.ravel() @ kernel, atol=1e-5)
        last = layer.input_shape if layer.kind == "flatten" else None


def test_numpy_moves_its_parameters_as_our_optimizer(written):
    experiment, case = written
    grads = experiment.params  # any tree of that shape
    params = jax.tree.map(np.array, case.params)
    moments = {
        "first": jax.tree.map(np.zeros_like, params),
        "second": jax.tree.map(np.zeros_like, params),
        "step": 0,
    }
    state = experiment.optimizer.init(experiment.params)
    ours = experiment.params
    for _ in range(3):
        own = jax.tree.map(np.asarray, grads)
        plain_numpy.update(params, own, case.facts["optimizer"], moments)
        updates, state = experiment.optimizer.update(grads, state, ours)
        ours = jax.tree.map(lambda p, u: p + u, ours, updates)
    assert largest_error(jax.tree.map(np.asarray, ours), params) < 1e-5


def test_every_contender_is_a_file_of_peers():
    for entry in contenders.CONTENDERS.values():
        assert (ROOT / "benchmarks" / "peers" / f"{entry.module}.py").exists()
    of_means = [e for e in contenders.CONTENDERS.values() if e.task == "mean"]
    tuned = {entry.name.removesuffix(", tuned") for entry in of_means if entry.tuned}
    peers = {e.name for e in of_means if not e.ours and not e.tuned}
    factored = (f"cnnjax factored{end}" for end in ("", *FORMS_BY_DEFAULT))
    assert tuned == {*peers, "cnnjax jit", *factored}
    absent = Entry(name="x", module="x", needs=("no_such_package", "numpy"))
    assert absent.missing == ("no_such_package",)


def test_a_contender_that_ends_is_told_by_its_last_words(written):
    _, case = written
    process = Process(Entry(name="x", module="no_such_peer"), case.folder)
    with pytest.raises(ContenderError, match="No module named 'peers.no_such_peer'"):
        process.answer()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells less")
def test_the_peak_memory_of_a_contender_is_its_own(written):
    _, case = written
    starts_it = (
        "from pathlib import Path; from contenders import Entry, Process\n"
        "held = b'x' * 2**30\n"
        f"folder = Path({str(case.folder)!r})\n"
        "process = Process(Entry(name='x', module='plain_numpy'), folder)\n"
        "process.answer()\n"
        "print(process.ask(do='memory')['peak_bytes']); process.end()"
    )
    done = subprocess.run(
        [sys.executable, "-c", starts_it],
        env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 2**24 < int(done.stdout) < 2**29, done.stderr


def test_a_busy_machine_is_warned_of():
    assert machine.warning(0.0, machine.BUSY) is None
    assert machine.busy_note([{"busy": [0.0, machine.BUSY]}, {}]) == ""
    assert machine.busy_note([{"busy": [0.4, 0.0]}, {}]).endswith("up to 40%")
    assert "40% of the cores before and 2% after" in machine.warning(0.4, 0.02)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Rows of a short run, as throughput.py keeps them."""
    folder = tmp_path_factory.mktemp("measured")
    done = run(
        "throughput.py",
        "--recipes=adam_cosine_cnn",
        "--batch_sizes=8",
        "--only=cnnjax jit$|norms_by_factors$|numpy|flax scan|opacus ghost clipped$",
        "--rounds=2",
        "--round_seconds=0.02",
        "--out=rows.jsonl",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    path = folder / "rows.jsonl"
    return (
        done.stdout,
        path,
        [json.loads(line) for line in path.read_text().splitlines()],
    )


def test_throughput_times_who_has_the_right_gradient(measured):
    printed, _, rows = measured
    by_name = {row["contender"]: row for row in rows}
    for name in ("cnnjax jit", "cnnjax norms_by_factors", "numpy", "flax scan"):
        row = by_name[name]
        assert row["gradient_error"] < 1e-5
        assert row["examples_per_second"]["n"] == 2
        assert row["examples_per_second"]["median"] > 0
        assert row["peak_bytes"] > 2**20
    ours = by_name["cnnjax jit"]
    best = max(
        by_name[n]["examples_per_second"]["median"] for n in ("numpy", "flax scan")
    )
    ratio = ours["examples_per_second"]["median"] / best
    assert ours["ratio_to_best"] == pytest.approx(ratio)
    assert 0 < ours["utilisation"] < 1
    assert {*ours["facts"]["stages"]} == {"cold", "warm"}
    assert re.search(r"cnnjax jit +[\d,]+", printed)
    assert max(map(len, printed.splitlines())) <= 80


def test_an_absent_peer_is_listed(measured):
    printed, _, rows = measured
    row = next(row for row in rows if row["contender"] == "opacus ghost clipped")
    if contenders.CONTENDERS["opacus ghost clipped"].missing:
        assert row["failure"].startswith("absent: ")
        assert "absent: " in printed
    else:
        assert "examples_per_second" in row


def test_wrong_gradients_are_not_timed(written):
    experiment, case = written
    right = reference.results(experiment, {"mean"})
    twice = {"mean": jax.tree.map(lambda g: 2 * g, right["mean"])}

    def checked(expected):
        process = Process(Entry(name="numpy", module="plain_numpy"), case.folder)
        try:
            return checks.checked(process, expected, folder=case.folder)
        finally:
            process.end()

    assert checked(right)["gradient_error"] <= 1e-5
    with pytest.raises(ContenderError, match="off by 5.0e-01: not timed"):
        checked(twice)


def test_the_report_is_one_page_and_a_table_for_the_readme(measured, tmp_path):
    _, path, _ = measured
    readme = tmp_path / "README.md"
    begin, end = "<!-- throughput: begin -->", "<!-- throughput: end -->"
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    done = run(
        "report.py", f"--out={tmp_path / 'out'}", f"--readme={readme}", str(path)
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<table class="bars">' in page
    assert not re.search(r'(src|href)="https?:', page)
    told = readme.read_text()
    assert told.startswith("before\n")
    assert told.endswith("after\n")
    assert "old" not in told
    assert "| `adam_cosine_cnn` | 8 |" in told


def test_two_runs_of_a_command_are_two_tables(measured, tmp_path):
    _, _, rows = measured
    again = [{**row, "run": "another"} for row in rows]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *again]))
    done = run("report.py", f"--out={tmp_path / 'out'}", str(path))
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "out" / "report.md").read_text()
    title = r"<summary>adam_cosine_cnn, batch 8, .*: an update from the mean gradient"
    assert len(re.findall(title, words)) == 2
    assert words.count("Another run: ") == 1  # whose ratio is its own


def test_a_network_is_widened_but_for_its_last_layer(written):
    """What scaling.py asks for: `filters` and `units`."""
    _, case = written
    plain = ours.experiment_of(case)
    wider = ours.experiment_of(case, num_filters=5, num_units=7)
    shapes = {name: leaves["kernel"].shape[-1] for name, leaves in wider.params.items()}
    last = max(shapes, key=lambda name: int(name.rpartition("_")[2]))
    assert shapes.pop(last) == plain.params[last]["kernel"].shape[-1] == 10
    assert {(name.split("_")[0], width) for name, width in shapes.items()} == {
        ("conv", 5),
        ("dense", 7),
    }


@pytest.mark.slow
def test_scaling_answers_a_question(tmp_path):
    done = run(
        "scaling.py",
        "--questions=overhead",
        "--batch_size=8",
        "--rounds=2",
        "--round_seconds=0.02",
        "--out=rows.jsonl",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["x"] for row in rows] == [0, 1]
    assert all(row["gradient_error"] < 1e-5 for row in rows)
    assert all(row["step_seconds"]["median"] > 0 for row in rows)
    assert [row.split()[0] for row in done.stdout.splitlines()[-2:]] == [
        "jit",
        "shard_map",
    ]
    assert "| shard_map |" in tables.scaling_table(rows)
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_accuracy_notes_when_a_target_is_reached(tmp_path):
    done = run(
        "accuracy.py",
        "--contender=cnnjax jit",
        "--epochs=2",
        "--num_seeds=1",
        "--targets=0.2,0.9999",
        "--out=rows.jsonl",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert ", 2 epochs, 1 seed\n" in done.stdout
    assert "no seed reached it" in done.stdout
    assert row["targets"]["0.2"]["seeds"] == 1
    assert row["targets"]["0.9999"] == {
        "seeds": 0,
        "train_seconds": None,
        "wall_seconds": None,
    }
    (curve,) = row["curves"]
    assert [point["epoch"] for point in curve] == [1, 2]
    assert curve[1]["train_seconds"] > curve[0]["train_seconds"] > 0


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("throughput.py", ["--recipes=nosuch"], "unknown recipe 'nosuch'"),
        ("throughput.py", ["--only=nosuch"], "expected --only to name a contender"),
        ("throughput.py", ["--only=("], "expected a regex for --only"),
        ("throughput.py", ["--batch_sizes=8,0"], "expected batch_sizes of at least 1"),
        (
            "throughput.py",
            ["--recipes=adam_cosine_cnn,nosuch"],
            "unknown recipe 'nosuch'",
        ),
        ("throughput.py", ["--tasks="], "expected at least one of --tasks"),
        (
            "scaling.py",
            ["--questions=filters", "--recipe=momentum_mlp_serial"],
            "expected a recipe with a convolution for --questions=filters",
        ),
        (
            "scaling.py",
            ["--questions=units", "--recipe=fast_mnist_cnn"],
            "expected a recipe with a hidden dense layer for --questions=units",
        ),
        (
            "throughput.py",
            ["--advise", "--only=jit", "--rounds=3"],
            "--advise tries our strategies, not the contenders; remove --only, "
            "--rounds",
        ),
        ("throughput.py", ["--out=/dev/null/x"], "cannot write /dev/null/x"),
        (
            "memory.py",
            ["--batch_size=8", "--microbatch_sizes=4,16"],
            "expected microbatch_sizes from 1 to 8 (see --batch_size), got '16'",
        ),
        ("memory.py", ["--recipes=nosuch"], "unknown recipe 'nosuch'"),
        ("scaling.py", ["--questions=nosuch"], "unknown question 'nosuch'"),
        ("accuracy.py", ["--contender=nosuch"], "unknown contender 'nosuch'"),
        ("accuracy.py", ["--targets=2"], "expected targets in (0, 1)"),
        ("accuracy.py", ["--contender=numpy"], "expected a contender that trains"),
        (
            "accuracy.py",
            ["--contender=cnnjax full_by_rows"],
            "expected a contender that trains",
        ),
        ("report.py", [], "expected result files"),
        ("report.py", ["nosuch.jsonl"], "cannot read nosuch.jsonl"),
        ("report.py", ["--out=/dev/null/x", "/dev/null"], "cannot write /dev/null/x"),
        ("report.py", ["--readme=nosuch.md", "/dev/null"], "cannot read nosuch.md"),
    ],
)
def test_bad_input_is_told_in_one_line(script, flags, message, tmp_path, forks):
    refused = forks.run(ROOT / "benchmarks" / script, *flags, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"{script}: error: {message}")
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_tuned_row_differs_in_its_allocator_alone():
    entry = contenders.CONTENDERS["keras on jax"]
    tuned = contenders.CONTENDERS["keras on jax, tuned"]
    assert replace(tuned, name=entry.name, environment=entry.environment) == entry
    assert entry.environment.items() < tuned.environment.items()
