"""What a terminal is told fits 80 columns; many fast epochs are few lines; bars."""

from __future__ import annotations

import functools
import itertools
import math
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import lines
import numpy as np
import pytest
from contenders import CONTENDERS

from cnnjax import load_dataset, override
from cnnjax.data.sources import SOURCES
from cnnjax.experiments.ensembles import SeedRun
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.recipes import RECIPES
from cnnjax.experiments.runs import Run
from cnnjax.faults import FAULTS
from cnnjax.gradients.reductions import REDUCTIONS
from cnnjax.gradients.rules import ROUTES
from cnnjax.laws.equivalence import Agreement, RuleAgreement
from cnnjax.statistics import mean_interval
from cnnjax.strategies import STRATEGIES
from cnnjax.studies.measuring.advice import Advice, Tried
from cnnjax.studies.measuring.advice_text import advice_lines
from cnnjax.studies.measuring.candidates import Candidate
from cnnjax.studies.measuring.timing import Spread
from cnnjax.telling import agreements, examples, layout, seeds, text
from cnnjax.telling.epochs import MOST_FAST_ROWS, EpochTable
from cnnjax.training.records import EpochRecord
from cnnjax.types import Examples, Metrics

SCRIPTS = sorted(
    path
    for path in (Path(__file__).parent.parent / "scripts").glob("*.py")
    if not path.name.startswith("_")
)
LONG = {"recipe": max(RECIPES, key=len), "strategy": max(STRATEGIES, key=len)}


def check_fits(*told: str) -> None:
    for line in "\n".join(told).splitlines():
        assert len(line) <= 80, line


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_fits_and_says_every_flag_in_a_group(script, forks, tmp_path):
    done = forks.run(script, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    check_fits(done.stdout)
    about, *groups = re.split(r"^([a-z ]+):$", done.stdout, flags=re.MULTILINE)
    assert f"scripts/{script.name}" in about
    assert groups[::2]
    assert set(groups[::2]) <= {
        *("this script", "data", "training", "optimizer", "devices", "cluster"),
        "output",
    }
    for flags in groups[1::2]:
        for entry in re.split(r"^  (?=--)", flags.strip("\n"), flags=re.MULTILINE)[1:]:
            assert re.search(r"\.$", entry.strip()), entry


def test_the_flags_of_train_are_grouped(forks, tmp_path):
    (train,) = (path for path in SCRIPTS if path.stem == "train")
    said = forks.run(train, "--help", cwd=tmp_path).stdout
    groups = re.findall(r"^([a-z ]+):$", said, re.MULTILINE)
    assert groups == ["data", "training", "optimizer", "devices", "cluster", "output"]
    assert "  --epochs=N            Passes over the training data.\n" in said
    assert "  --b1=X                Adam's beta1.\n" in said


def record(epoch: int = 1, *, seconds: float = 0.01, **values: float) -> EpochRecord:
    names = ("loss", "accuracy", "grad_norm")
    train = {name: values.get(name, 0.5) for name in names}
    return EpochRecord(
        epoch=epoch,
        step=epoch,
        learning_rate=1.234e-05,
        train=train,
        test={name: values.get(f"test_{name}", 0.5) for name in names[:2]},
        seconds=seconds,
        examples_per_second=1_375_611.0,
        steps=Metrics({"loss": np.array([0.5])}, np.ones(1)),
    )


def shown(table: EpochTable, records: list[EpochRecord]) -> list[int]:
    """Return the epochs whose rows are shown; each line must fit."""
    lines = list(itertools.chain.from_iterable(map(table.lines, records)))
    check_fits(*lines)
    return [int(line[:5]) for line in lines if re.match(r" *\d+  ", line)]


@pytest.mark.parametrize("epochs", [1, 2, 40, 41, 200, 1000])
def test_of_many_fast_epochs_few_are_shown(epochs):
    table = EpochTable(epochs)
    numbers = shown(table, [record(epoch) for epoch in range(1, epochs + 1)])
    assert numbers[0] == 1
    assert numbers[-1] == epochs
    assert len(numbers) <= MOST_FAST_ROWS + 1
    told = table.left_out(kept=True)
    if epochs <= MOST_FAST_ROWS:
        assert (len(numbers), told) == (epochs, [])
    else:
        rest = f"of {epochs} epochs are shown; metrics.jsonl has them all"
        assert told == [f"{len(numbers)} {rest}"]
        check_fits(*table.left_out(kept=False))


def test_slow_epochs_are_all_shown():
    table = EpochTable(100)
    records = [record(epoch, seconds=1.5) for epoch in range(1, 101)]
    assert shown(table, records) == list(range(1, 101))


def test_the_epoch_in_which_a_run_diverges_is_shown_with_one_warning():
    table = EpochTable(400)
    losses = [0.5] * 122 + [math.nan] * 278
    records = [record(epoch, loss=loss) for epoch, loss in enumerate(losses, 1)]
    told = [line for one in records for line in table.lines(one)]
    check_fits(*told)
    (at,) = (i for i, line in enumerate(told) if line.startswith("warning"))
    assert told[at].startswith("warning: the loss of epoch 123 is nan: the run has")
    assert told[at - 1].startswith("  123      nan   0.5000")


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e-5, 2.5e-3, 0.4, 99.96, 1e4, 1e9])
def test_the_seconds_of_an_epoch_have_digits_and_stay_in_their_column(seconds):
    head, names, row = EpochTable(1).lines(record(seconds=seconds))[:3]
    check_fits(head, names, row)
    assert len(names) == len(row)
    end = names.index("seconds") + len("seconds")
    told = float(row[end - 7 : end].replace(",", ""))
    assert told == pytest.approx(seconds, rel=0.05, abs=5e-6)
    assert row[end - 8] == " "


@pytest.mark.parametrize("value", [0.0, 1.0, 12.3456, 123456.789, 1e38, math.inf])
def test_a_row_fits_whatever_the_numbers(value):
    names = ("loss", "accuracy", "grad_norm", "test_loss", "test_accuracy")
    numbers = dict.fromkeys(names, value)
    head, names, row = EpochTable(1).lines(record(12345, **numbers))[:3]
    check_fits(head, names, row)
    assert len(names) == len(row)


@pytest.fixture(scope="module")
def experiment():
    recipe = override(RECIPES[LONG["recipe"]], dataset="digits")
    return prepare(recipe, load_dataset("digits"))


def test_what_is_trained_fits_with_the_longest_names(experiment):
    for dataset in (*SOURCES, "tfds:cats_vs_dogs_of_long_name"):
        recipe = override(experiment.recipe, dataset=dataset, strategy=LONG["strategy"])
        named = experiment._replace(recipe=recipe)
        lines = text.run_text(named, "seeds 0 to 4294967295")
        check_fits(lines)
        assert f"dataset {dataset} (" in lines
    for own in RECIPES.values():
        check_fits(text.summary(own.model))
    check_fits(*text.fault_lines(FAULTS))


def test_the_environment_fits_and_counts_in_plain_english():
    environment = {
        **{"python": "3.13.10", "jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"},
        **{"num_devices": 8, "device_kind": "NVIDIA H100 80GB HBM3"},
        **{"platform": "gpu", "num_processes": 2, "num_cores": 1},
        "commit": "0123456789+",
    }
    told = text.environment_text(environment)
    check_fits(told)
    assert "8 NVIDIA H100 80GB HBM3 (GPU) devices of 2 processes, 1 core;" in told


def test_seeds_fit():
    labels = np.arange(100)
    run = Run({}, [record()], {"accuracy": 0.5, "loss": math.nan, "examples": 100}, 9)
    check_fits(seeds.seed_line(SeedRun(123, run, labels, np.zeros(100, int))))
    told = functools.partial(seeds.interval_lines, "accuracy")
    many = list(range(200))
    check_fits(*told(mean_interval([0.1, 0.2]), not_finite=many, diverged=many))


def test_times_fit_and_come_to_a_total():
    parts = ("load", "prepare", "write", "compile", "train", "evaluate", "predict")
    seconds = dict.fromkeys(parts, 1234.56)
    told = text.time_text(seconds, total=8642.0, cache="partly warm")
    check_fits(told)
    assert told.endswith("total 8642.00 (compile cache partly warm)")


def test_comparisons_of_strategies_and_rules_fit(experiment):
    objection = "gradient off by 1.0e+00, 2.2e+05 times the bound, and what else it is"
    agreement = Agreement(1.0, 1.0, 1.0, 1.0, 1, 10**10, (objection, objection))
    head = agreements.head_lines(experiment.recipe, 64, text.fault_lines([]), 5)
    check_fits("\n".join(head))
    for name in STRATEGIES:
        own = experiment._replace(recipe=override(experiment.recipe, strategy=name))
        told = agreements.strategy_row(own, agreement)
        check_fits(told)
        assert re.match(rf"{name} .* DISAGREES\n  gradient off by 1", told)
    for reduction, route in itertools.product(REDUCTIONS, ROUTES):
        rule = RuleAgreement(1.0, 1.0, 10**10, False)
        check_fits(agreements.rule_row(f"{reduction}_by_{route}", rule))


def test_advice_fits_with_the_longest_names():
    tried = tuple(
        Tried(Candidate(name, 32), Spread(step, step, step, 1), build, 0.0)
        for name, step, build in (
            *((LONG["strategy"][:9], 1.23456e-4, 100.0), ("shard_map", 2e-4, 12.0)),
            ("factored", 1.5, 0.5),
        )
    )
    *table, _ = advice_lines(Advice(tried, 1024))
    check_fits(*table)


def test_the_tables_of_the_benchmarks_fit_with_the_longest_names():
    names = sorted(CONTENDERS, key=len)
    spread = {"median": 1_375_611.4, "low": 1_234_567.8, "high": 1_456_789.1}
    rate = {
        **{"task": "mean", "examples_per_second": spread, "gradient_error": 1.23e-7},
        **{"ratio_to_best": 123.45, "ratio_to_best_tuned": 123.45, "utilisation": 0.99},
        "times_the_batch_gradient": 123.45,
        "facts": {"stages": {"a": {"b": 123.4}, "c": {"d": 12.3}}, "flops": 2e9},
    }
    rate["facts"]["temporary_bytes"] = 10**10
    peak = {**rate, "task": "peak", "steps_per_second": spread}
    failed = {"failure": "gradients off by 1.0e+00: not timed; " * 4}
    rows = [rate, {**rate, "facts": {}}, peak, failed]
    told = lines.rates_lines(dict(zip(names[-4:], rows, strict=True)))
    check_fits(*told)
    assert len(told) == 2 + 2 + 2 + 1 + 1

    point = {"x": 1, "batch_size": 60_000, "temporary_bytes": 10**10}
    point["step_seconds"] = {"median": 1.23456, "low": 1.1e-3, "high": 1.23456e3}
    for question in ("overhead", "strong"):
        told = lines.points_lines(question, "filters", [point, {"x": 0, **failed}])
        check_fits(*told)
        assert told[1].startswith("shard_map " if question == "overhead" else "1 ")

    spent = {f"{kind}_seconds": {"median": 12_345.6} for kind in ("train", "wall")}
    reached = {"0.97": {"seeds": 10, **spent}, "0.985": {"seeds": 0}}
    row = {"contender": names[-1], "targets": reached, "accuracy": {"median": 1.0}}
    check_fits(*lines.targets_lines([row | spent]))
    longest = max((n for n, e in CONTENDERS.items() if e.task == "mean"), key=len)
    last = {"accuracy": 1.0, "train_seconds": 12_345.6, "wall_seconds": 12_345.6}
    check_fits(lines.seed_line(123, longest, last))


@pytest.mark.parametrize("size", [8, 28, 32, 40, 41, 64, 224])
def test_an_image_is_drawn_as_wide_as_a_terminal_at_most(size):
    image = np.full((size, size, 3), 255, np.uint8)
    drawn = examples.image_as_text(image)
    check_fits(drawn)
    width = 2 * size if size <= 40 else 2 * (size // -(-size // 40))
    assert set(drawn.splitlines()) == {"@" * width}
    assert len(drawn.splitlines()) == width // 2


def test_a_row_of_numbers_and_its_prediction_fit():
    rows = Examples(np.full((1, 30), 123.456), np.full((1, 8), 0.25))
    check_fits(examples.example_as_text(rows, 0))
    check_fits(examples.prediction_line(rows, 0, np.full(8, 0.5)))


def test_lines_are_broken_at_spaces_and_words_never():
    path = "/a" * 60
    told = layout.wrap(f"results in {path}")
    assert told == f"results in\n  {path}"
    assert layout.wrap("  a b c", width=5) == "  a b\n    c"
    assert layout.flow(["one", "two three"], width=9) == "one,\n  two\n    three"


def test_a_long_command_can_be_pasted():
    words = ["python", "scripts/train.py", *(f"--flag_{i}=a b" for i in range(9))]
    told = layout.command(words, indent="    ")
    check_fits(told)
    done = subprocess.run(
        ["sh", "-c", told.replace("python scripts/train.py", "printf '%s\\n'")],
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == words[2:]


def on_a_terminal(*command: str, cwd: Path, **environment: str) -> str:
    """Run a script on a terminal of its own; return what it has drawn there."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=theirs,
        stderr=subprocess.STDOUT,
    )
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 2**16):
            drawn += part
    except OSError:  # the terminal is gone, as its process is
        pass
    os.close(ours)
    assert running.wait() == 0, drawn.decode()
    return drawn.decode()


QUICK = ("--recipe=momentum_mlp_per_sample", "--num_train=64", "--batch_size=8")


def script(name: str) -> str:
    return str(next(path for path in SCRIPTS if path.stem == name))


@pytest.mark.parametrize(
    ("name", "flags", "bars"),
    [
        ("train", ("--epochs=2",), ("compiling, 00:0", "64.0/128 [")),
        (
            "compare_strategies",
            ("--strategy=jit", "--num_steps=2"),
            ("reference |", "jit |", "1/2, "),
        ),
    ],
)
def test_who_waits_at_a_terminal_sees_a_bar(name, flags, bars, tmp_path):
    drawn = on_a_terminal(script(name), *QUICK, *flags, cwd=tmp_path)
    for bar in bars:
        assert bar in drawn
    for line in re.split(r"[\r\n]+", drawn.replace("\x1b[A", "")):
        check_fits(line)


def test_the_bar_of_a_training_shows_the_losses(tmp_path):
    """One block for each epoch; where the terminal has no blocks, the bar alone."""
    flags = (*QUICK, "--epochs=3")
    assert re.search(
        r"loss █[▁-█]{2}[^▁-█]", on_a_terminal(script("train"), *flags, cwd=tmp_path)
    )
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    drawn = on_a_terminal(script("train"), *flags, cwd=tmp_path, **ascii_only)
    assert "loss █" not in drawn
    assert "examples/s" in drawn


def test_a_file_gets_plain_lines_only(forks, tmp_path):
    done = forks.run(Path(script("train")), *QUICK, "--epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\ncompiling\n" in done.stdout
    assert "\r" not in done.stdout
    assert "|" not in done.stdout


def test_of_a_long_run_the_folder_has_every_epoch(forks, tmp_path):
    flags = (*QUICK, "--epochs=100", "--evaluate_every=0", "--workdir=run")
    done = forks.run(Path(script("train")), *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^ +\d+  .*", done.stdout, re.MULTILINE)
    kept = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(kept) == 100
    assert f"\n{len(rows)} of 100 epochs are shown; metrics.jsonl has" in done.stdout
    assert rows[-1].startswith("  100  ")
