"""`scripts/compare_runs.py`: what it concludes from folders, and what it refuses."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import compare_runs
import numpy as np
import pytest
from absl import flags
from run_folders import write_run

from cnnjax.base.errors import InputError
from cnnjax.results.outcomes import read_outcome
from cnnjax.results.pairing import pair_predictions
from cnnjax.statistics import (
    compare_means,
    compare_pairs,
    prediction_interval,
)
from cnnjax.types import NO_PREDICTION

SCRIPT = Path(__file__).parent.parent / "scripts" / "compare_runs.py"
MEAN_SQUARED = "mean_squared_error"
HIGH = {0: 0.985, 1: 0.984, 2: 0.986, 3: 0.985}
LOW = {1: 0.967, 2: 0.969, 3: 0.966, 4: 0.967, 5: 0.968}


def write_predictions(run: str, labels, predictions, *, seed: int = 0) -> None:
    lines = ["seed,example,label,prediction"]
    for example, pair in enumerate(zip(labels, predictions, strict=True)):
        lines.append(f"{seed},{example},{pair[0]},{pair[1]}")
    (Path(run) / "predictions.csv").write_text("\n".join(lines) + "\n")


def edit(run: str, file: str, **fields) -> None:
    """Change fields of a run's file of JSON; of seeds.jsonl, in its first line."""
    path = Path(run) / file
    first, *others = (
        path.read_text().splitlines() if ".jsonl" in file else [path.read_text()]
    )
    lines = [json.dumps({**json.loads(first), **fields}), *others]
    path.write_text("\n".join(lines))


FOLDED = re.compile(r"\n(?:  |     |      )(?=\S)")  # a line that goes on


@pytest.fixture
def compare(capsys):
    """Run the script's main; return its text unfolded, or with as_json its object."""

    def run(*args: str, as_json: bool = False):
        flags.FLAGS(["compare_runs.py", f"--json={as_json}"])
        compare_runs.main(list(args))
        out = capsys.readouterr().out
        if as_json:
            return json.loads(out)
        assert all(len(s) <= 80 or s[:3] in ("A  ", "B  ") for s in out.splitlines())
        return FOLDED.sub(" ", out)

    yield run
    flags.FLAGS(["compare_runs.py", "--json=False"])


def single_runs(tmp_path, *, only_a: int, only_b: int):
    """Write two single runs, right on 20 common examples and on some each alone."""
    labels = np.arange(20 + only_a + only_b) % 10
    wrong = (labels + 1) % 10
    index = np.arange(labels.size)
    a = np.where((index >= 20) & (index < 20 + only_b), wrong, labels)
    b = np.where(index >= 20 + only_b, wrong, labels)
    runs = []
    for name, predictions in (("a", a), ("b", b)):
        score = float(np.mean(predictions == labels))
        runs.append(write_run(tmp_path / name, {0: score}))
        write_predictions(runs[-1], labels, predictions)
    return runs


def test_seeds_on_both_sides_are_compared_by_welch_and_by_pairs(tmp_path, compare):
    runs = write_run(tmp_path / "a", HIGH), write_run(tmp_path / "b", LOW)
    text = compare(*runs)
    assert "recipe adam_cosine_cnn, dataset mnist, 4 seeds" in text
    assert "test accuracy: mean 98.50 %, std 0.08 points; n = 4" in text
    assert "95 % interval of the mean: 98.37 % to 98.63 % (Student), " in text
    assert "A - B: +1.76 points, 95 % interval +1.61 points to +1.91 points" in text
    assert "Welch, 4 and 5 seeds: t 26.9" in text
    assert "paired, 3 seeds in both: t 26.5" in text
    assert text.splitlines()[-1] == "verdict: different; A is better"
    found = compare(*runs, as_json=True)
    welch = compare_means(list(HIGH.values()), list(LOW.values()))
    assert found["welch"]["p_value"] == welch.p_value
    paired = compare_pairs([0.984, 0.986, 0.985], [0.967, 0.969, 0.966])
    assert found["paired"]["t"] == pytest.approx(paired.t)  # of seeds 1, 2, 3
    assert found["a"]["seeds"] == [0, 1, 2, 3]
    assert found["b"]["n"] == 5
    assert compare(*runs[::-1]).splitlines()[-1] == "verdict: different; B is better"


def test_too_few_seeds_are_told_how_many_are_needed(tmp_path, compare):
    a = write_run(tmp_path / "a", {0: 0.98, 1: 0.96, 2: 0.97})
    b = write_run(tmp_path / "b", {2: 0.96, 3: 0.97, 4: 0.975})
    text = compare(a, b)
    needed = compare_means([0.98, 0.96, 0.97], [0.96, 0.97, 0.975]).num_needed
    assert f"you would need about {needed:,} seeds each" in text.splitlines()[-1]
    assert "no paired test: needs at least 3 seeds in both, found 1" in text
    assert "better" not in text


def test_of_regressions_the_lower_loss_is_better(tmp_path, compare):
    a = write_run(tmp_path / "a", {0: 0.02, 1: 0.021, 2: 0.022}, metric="test_loss")
    b = write_run(tmp_path / "b", {0: 0.012, 1: 0.011, 2: 0.01}, metric="test_loss")
    text = compare(a, b)
    assert "test loss: mean 0.021, std 0.001; n = 3" in text
    assert text.splitlines()[-1] == "verdict: different; B is better"


def test_single_runs_are_compared_on_their_predictions(tmp_path, compare):
    runs = single_runs(tmp_path, only_a=9, only_b=1)
    text = compare(*runs)
    assert "test accuracy 96.67 %; n = 1, so no interval" in text
    assert "both right 20, only A 9, only B 1, neither 0" in text
    assert "p 0.021" in text  # 2 (1 + 10) / 1024
    assert "not the methods; train several seeds of each" in text
    assert text.splitlines()[-1] == "verdict: the two networks differ; A is better"
    found = compare(*runs[::-1], as_json=True)
    assert found["mcnemar"]["only_b_right"] == 9
    assert found["verdict"] == "the two networks differ; B is better"


def test_single_runs_of_few_disagreements_are_not_shown_to_differ(tmp_path, compare):
    text = compare(*single_runs(tmp_path, only_a=5, only_b=1))
    assert text.splitlines()[-1] == (
        "verdict: the two networks are not shown to differ"
    )


def test_single_regressions_have_no_test(tmp_path, compare):
    a = write_run(tmp_path / "a", {0: 0.02}, metric="test_loss")
    b = write_run(tmp_path / "b", {0: 0.01}, metric="test_loss")
    text = compare(a, b)
    assert "A - B: +0.01" in text
    assert "verdict: none: two single regressions have no test" in text
    with pytest.raises(InputError, match="a is a regression, .* train several seed"):
        pair_predictions(read_outcome(a), read_outcome(b))


def test_an_accuracy_does_not_make_a_regression_a_classifier(tmp_path, compare):
    """The fault `reflected_ratio_accuracy` reports one."""
    settings = {"loss": MEAN_SQUARED}
    runs = [write_run(tmp_path / n, {0: 0.9}, settings=settings) for n in ("a", "b")]
    assert "verdict: none: two single regressions" in compare(*runs)


def test_what_differs_is_told(tmp_path, compare):
    layers = [{"type": "Conv", "features": 32}, {"type": "Flatten"}]
    fewer = [{"type": "Conv", "features": 8}]
    a = {"optimizer": {"l2": 1e-4}, "epochs": 3, "model": {"layers": layers}}
    b = {"optimizer": {"l2": 0.0}, "epochs": 3, "model": {"layers": fewer}}
    runs = (
        write_run(tmp_path / "a", HIGH, settings=a, faults=["reversed_gradient"]),
        write_run(tmp_path / "b", LOW, settings=b),
    )
    text = compare(*runs)
    assert "dataset mnist, fault reversed_gradient, 4 seeds" in text
    assert "dataset mnist, 5 seeds" in text
    told = (
        "optimizer.l2 0.0001 against 0.0, model.layers.0.features 32 against 8, "
        'model.layers.1.type "Flatten" against null'
    )
    assert f"different settings: {told}\n" in text
    found = compare(*runs, as_json=True)
    assert found["differ_in"]["optimizer.l2"] == [1e-4, 0.0]
    assert found["a"]["faults"] == ["reversed_gradient"]
    same = write_run(tmp_path / "c", LOW, settings=b)
    assert "same settings in both recipes\n" in compare(runs[1], same)


def test_of_many_differences_the_first_are_told(tmp_path, compare):
    settings = {f"field_{i}": i for i in range(9)}
    a = write_run(tmp_path / "a", HIGH, settings=settings)
    b = write_run(tmp_path / "b", LOW)
    text = compare(a, b)
    assert "field_5 5 against null, 3 more (see --json)\n" in text
    assert "field_6" not in text


@pytest.mark.parametrize(("value", "inside"), [(0.967, False), (0.9855, True)])
def test_one_seed_is_held_against_many(tmp_path, compare, value, inside):
    one = write_run(tmp_path / "one", {7: value})
    many = write_run(tmp_path / "many", HIGH)
    found = compare(one, many, as_json=True)
    assert found["inside"] == inside
    expected = prediction_interval(list(HIGH.values()))
    assert tuple(found["prediction_interval"]) == expected
    text = compare(many, one)  # the single one is B now
    place = "inside" if inside else "outside"
    assert f"the only seed of B is {place}: {value:.2%}"[:-1] in text
    assert "95 % interval for one more seed of A: 98.21 % to 98.79 %" in text
    assert ("not shown to differ" in text) == inside


def test_predictions_are_paired_by_example_not_by_line(tmp_path):
    runs = single_runs(tmp_path, only_a=2, only_b=3)
    expected = pair_predictions(*map(read_outcome, runs))
    file = Path(runs[1]) / "predictions.csv"
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([header, *lines[::-1]]) + "\n")
    for left, right in zip(
        pair_predictions(*map(read_outcome, runs)), expected, strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_runs_of_other_test_examples_are_not_paired(tmp_path, compare):
    runs = single_runs(tmp_path, only_a=2, only_b=3)
    labels = np.arange(25) % 10
    for other in (labels[::-1], labels[:24]):
        write_predictions(runs[1], other, other)
        edit(runs[1], "result.json", test_accuracy=1.0)
        with pytest.raises(InputError, match="different examples; .* the same --seed"):
            compare(*runs)


def test_runs_that_cannot_be_compared_are_refused(tmp_path, compare):
    a = write_run(tmp_path / "a", {0: 0.9})
    other = write_run(tmp_path / "other", {0: 0.9}, dataset="digits")
    with pytest.raises(InputError, match="same dataset, got mnist in .*a and digits"):
        compare(a, other)
    loss = write_run(tmp_path / "loss", {0: 0.9}, metric="test_loss")
    with pytest.raises(InputError, match="the same metric, got test_accuracy"):
        compare(a, loss)
    with pytest.raises(InputError, match="the same folder twice"):
        compare(a, f"{a}/../a")
    with pytest.raises(InputError, match="two workdirs, A and B, got 1"):
        compare(a)


LOST = {"diverged": True, "test_no_prediction": 360, "test_loss": None}


def run_of(folder: Path, scores: dict[int, float], lost=(), **fields) -> str:
    """Write a run of which some seeds diverged; `fields` replace what is kept."""
    rows = dict.fromkeys(lost, LOST | fields)
    return write_run(folder, scores, of_seed=rows)


@pytest.mark.parametrize(
    ("scores", "lost", "verdict"),
    [
        ({0: 0.0}, [0], "; B diverged"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, [0, 1, 2], "; B diverged in 3 of 3 seeds"),
        ({0: 0.98, 1: 0.0, 2: 0.97}, [1], "; B diverged in 1 of 3 seeds"),
        ({5: 0.96, 6: 0.97, 7: 0.2}, [7], "; B diverged in 1 of 3 seeds"),
        ({5: 0.96, 6: 0.97}, [], ""),
    ],
)
@pytest.mark.parametrize("both", [False, True])
def test_a_comparison_says_who_diverged(tmp_path, compare, scores, lost, verdict, both):
    a = run_of(tmp_path / "a", {**HIGH, 9: 0.0}, [9] if both else [])
    b = run_of(tmp_path / "b", scores, lost)
    verdict = ("; A diverged in 1 of 5 seeds" if both else "") + verdict
    text, found = compare(a, b), compare(a, b, as_json=True)
    assert text.splitlines()[-1] == f"verdict: {found['verdict']}"
    assert found["verdict"].endswith(verdict)
    assert found["verdict"].count("diverged") == bool(lost) + both
    assert found["b"]["diverged"] == {str(seed): 360 for seed in lost}
    assert found["b"]["mean"] == pytest.approx(np.mean(list(scores.values())))
    for seed in lost:
        told = f"   diverged: seed {seed}, no prediction for 360 test examples, which "
        assert told in text


def test_two_single_runs_are_compared_by_what_they_predict(tmp_path, compare):
    runs = [write_run(tmp_path / "a", {0: 0.75}), run_of(tmp_path / "b", {0: 0.0}, [0])]
    labels = np.arange(20) % 4
    write_predictions(runs[0], labels, np.where(labels == 3, 0, labels))
    write_predictions(runs[1], labels, np.full(20, NO_PREDICTION))
    found = compare(*runs, as_json=True)
    assert (found["mcnemar"]["only_a_right"], found["mcnemar"]["both_wrong"]) == (15, 5)
    assert found["verdict"] == "the two networks differ; A is better; B diverged"


def test_runs_of_before_no_prediction_was_counted_are_to_be_trained_again(
    tmp_path, compare
):
    """There, a NaN predicted class 0; but its loss was kept as null."""
    a = run_of(tmp_path / "a", {0: 0.98, 1: 0.1}, [1], test_no_prediction=None)
    b = run_of(tmp_path / "b", {0: 0.98, 1: 0.97})
    assert read_outcome(a).diverged == {1: None}
    text = compare(a, b)
    assert "diverged: seed 1, test examples without a prediction were not" in text
    assert text.splitlines()[-1].endswith("; A diverged in 1 of 2 seeds")


def test_a_regression_whose_loss_was_not_finite_for_a_time_is_told(tmp_path, compare):
    lost = {"diverged": True, "test_no_prediction": None}
    a, b = (
        write_run(tmp_path / name, {0: 0.1, 1: 0.2}, metric="test_loss", of_seed=rows)
        for name, rows in (("a", {1: lost}), ("b", {}))
    )
    text = compare(a, b)
    assert "   diverged: seed 1, a training loss was not finite\n" in text
    assert text.splitlines()[-1].endswith("; A diverged in 1 of 2 seeds")


RESULT = {"recipe": "r", "dataset": "d", "seed": 0, "test_accuracy": 0.9}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "holds no run of train.py: it has no result.json"),
        ({"config.json": "{}"}, "holds an unfinished run: it has no result.json"),
        ({"result.json": '{"recipe": "r"'}, "result.json is damaged: "),
        ({"result.json": "[1]"}, "damaged: expected an object, got '\\[1\\]'"),
        ({"result.json": b"\xff\xfe"}, "cannot read .*result.json"),
        ({"result.json": {**RESULT, "recipe": 3}}, "expected recipe in .*, got 3"),
        ({"result.json": {**RESULT, "seed": True}}, "expected seed in .*, got true"),
        (
            {"result.json": {"recipe": "r", "seed": 0}},
            "expected test_loss of seed 0 in .* nothing",
        ),
        (
            {"result.json": {**RESULT, "test_accuracy": None}},
            "expected test_accuracy of seed 0 in .*, got null; null: it was not finite",
        ),
        ({"result.json": RESULT}, "cannot read .*config.json: "),
        ({"seeds.jsonl": ""}, "at least one seed in .*seeds.jsonl, got 0"),
        ({"seeds.jsonl": '{"seed": 0, "test_acc'}, "seeds.jsonl is damaged"),
        (
            {"seeds.jsonl": '{"seed": 0, "test_loss": 1}\n' * 2},
            "each seed once in .*seeds.jsonl, got 0",
        ),
        (
            {"seeds.jsonl": '{"seed": 3, "test_loss": NaN}'},
            "a finite test_loss of seed 3 in .*seeds.jsonl, got nan",
        ),
    ],
)
def test_damaged_folders_are_told_in_a_line(tmp_path, files, complaint):
    if "seeds.jsonl" in files:
        files = {"result.json": RESULT, **files}
    for name, content in files.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
            continue
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_outcome(str(tmp_path))


HUGE = 10**400

EDITS = [
    ({"test_accuracy": 7.0}, "test_accuracy of seed 0 .* from 0 to 1, got 7.0"),
    ({"test_accuracy": -0.01}, "test_accuracy of seed 0 .* from 0 to 1, got -0.01"),
    ({"test_accuracy": 98.5}, "test_accuracy of seed 0 .* from 0 to 1, got 98.5"),
    ({"test_accuracy": HUGE}, "test_accuracy of seed 0 .* a number, got 1000"),
    ({"test_accuracy": True}, "test_accuracy of seed 0 .* a number, got true"),
    ({"test_accuracy": "0.9"}, 'test_accuracy of seed 0 .* a number, got "0.9"'),
    ({"test_accuracy": [0.9]}, r"test_accuracy of seed 0 .* a number, got \[0.9\]"),
    ({"diverged": "no"}, 'diverged of seed 0 .* true or false, got "no"'),
    ({"diverged": 0}, "diverged of seed 0 .* true or false, got 0"),
    ({"diverged": None}, "diverged of seed 0 .* true or false, got null"),
    ({"diverged": []}, r"diverged of seed 0 .* true or false, got \[\]"),
    ({"test_loss": "high"}, 'test_loss of seed 0 .* a number, got "high"'),
    ({"test_loss": HUGE}, "test_loss of seed 0 .* a number, got 1000"),
    ({"test_loss": {}}, "test_loss of seed 0 .* a number, got {}"),
    ({"test_no_prediction": -3}, "test_no_prediction of seed 0 .* got -3"),
    ({"test_no_prediction": "3"}, "test_no_prediction of seed 0 .* whole number from"),
    ({"test_no_prediction": 3.0}, "test_no_prediction of seed 0 .* got 3.0"),
    ({"seed": -1}, "seed in .* a whole number from 0, got -1"),
    ({"seed": 0.0}, "seed in .* a whole number from 0, got 0.0"),
    ({"seed": None}, "seed in .* a whole number from 0, got null"),
]


@pytest.mark.parametrize(("fields", "complaint"), EDITS)
@pytest.mark.parametrize("file", ["result.json", "seeds.jsonl"])
def test_an_edited_result_is_told_by_file_and_field(tmp_path, file, fields, complaint):
    run = write_run(tmp_path / "a", {0: 0.9} if file == "result.json" else HIGH)
    read_outcome(run)
    edit(run, file, **fields)
    with pytest.raises(InputError, match=complaint) as caught:
        read_outcome(run)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("file", "fields", "complaint"),
    [
        ("config.json", {"faults": None}, "faults in .* list of names, got null"),
        ("config.json", {"faults": 5}, "faults in .* a list of names, got 5"),
        ("config.json", {"faults": "a"}, 'faults in .* a list of names, got "a"'),
        ("config.json", {"faults": [5]}, r"faults in .* of names, got \[5\]"),
        ("config.json", {"faults": {"a": 1}}, "faults in .* a list of names, got {"),
        ("config.json", {"recipe": None}, "recipe in .* an object, got null"),
        ("config.json", {"recipe": [1]}, r"recipe in .* an object, got \[1\]"),
        ("config.json", {"recipe": "mlp"}, 'recipe in .* an object, got "mlp"'),
        ("config.json", {"recipe": {"l2": math.nan}}, "a finite l2 in .* got nan"),
        ("config.json", {"recipe": {"a": {"b": math.inf}}}, "finite a.b in .* got inf"),
        ("result.json", {"recipe": "a\nb"}, "recipe in .* a name, got "),
        ("result.json", {"dataset": "\ud800"}, "dataset in .* a name, got "),
        ("result.json", {"dataset": ["mnist"]}, r'dataset in .* a name, got \["mnist'),
    ],
)
def test_an_edited_file_is_told_by_file_and_field(tmp_path, file, fields, complaint):
    run = write_run(tmp_path / "a", HIGH)
    edit(run, file, **fields)
    with pytest.raises(InputError, match=complaint) as caught:
        read_outcome(run)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


DEEP = ("[" * 100_000, "[" * 60 + "]" * 60, '{"a":' * 400 + "1" + "}" * 400)


@pytest.mark.parametrize("file", ["result.json", "config.json", "seeds.jsonl"])
@pytest.mark.parametrize("deep", DEEP, ids=["cut off", "60", "400"])
def test_brackets_in_brackets_are_refused(tmp_path, file, deep):
    run = write_run(tmp_path / "a", HIGH)
    (Path(run) / file).write_text(
        f'{{"seed": 0, "test_accuracy": 0.9, "recipe": {deep}}}'
    )
    with pytest.raises(InputError, match=f"{file} is damaged: "):
        read_outcome(run)


@pytest.mark.parametrize("file", ["result.json", "config.json", "seeds.jsonl"])
def test_a_field_that_is_there_twice_is_refused(tmp_path, file):
    run = write_run(tmp_path / "a", HIGH)
    text = (Path(run) / file).read_text()
    (Path(run) / file).write_text('{"seed": 0, "recipe": {}, ' + text[1:])
    with pytest.raises(InputError, match=f"{file} is damaged: '[a-z]+' occurs twice"):
        read_outcome(run)


def test_an_accuracy_that_the_predictions_contradict_is_refused(tmp_path):
    (run, _) = single_runs(tmp_path, only_a=3, only_b=2)
    read_outcome(run)
    for wrong in (0.0, 0.9, 0.93, 0.95, 1.0):  # 23 of 25 are right: 0.92
        edit(run, "result.json", test_accuracy=wrong)
        with pytest.raises(InputError, match="csv, 23 of 25 right, got") as caught:
            read_outcome(run)
        assert "test_accuracy of seed 0 in " in str(caught.value)
    edit(run, "config.json", faults=["reflected_ratio_accuracy"])
    edit(run, "result.json", test_accuracy=1.7)  # as that fault may report
    assert read_outcome(run).scores == {0: 1.7}


def test_of_many_seeds_each_is_held_against_its_predictions(tmp_path):
    scores = {0: 0.5, 1: 0.75, 2: 1.0}
    run = write_run(tmp_path / "a", scores)
    lines = [
        f"{seed},{example},1,{int(example < 4 * score)}"
        for seed, score in scores.items()
        for example in range(4)
    ]
    text = "\n".join(["seed,example,label,prediction", *lines])
    (Path(run) / "predictions.csv").write_text(text)
    assert read_outcome(run).scores == scores
    edit(run, "seeds.jsonl", test_accuracy=0.75)
    with pytest.raises(InputError, match=r"seed 0 in .* 2 of 4 right, got 0\.75"):
        read_outcome(run)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="expected the folder of a run, got '"):
        read_outcome(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "has no predictions.csv; train that run again"),
        ("", "expected the columns"),
        ("seed,example,label\n", "expected the columns"),
        ("seed,example,label,prediction\n", "at least one test example in .*, got 0"),
        (
            "seed,example,label,prediction\n0,0,1,1\n0,1,",
            "expected four whole numbers in line 3 of .*, got '0,1,'",
        ),
        (
            "seed,example,label,prediction\n0,0,1,1\n0,0,1,1\n",
            "each example once in line 3",
        ),
        ("seed,example,label,prediction\n5,0,1,1\n", "the seed of the run in line 2"),
        ("seed,example,label,prediction\n0,0,1,1_0\n", "four whole numbers in line 2"),
        ("seed,example,label,prediction\n0,0,1,1.0\n", "four whole numbers in line 2"),
        ('seed,example,label,prediction\n0,0,1,"1\n', "four whole numbers in line 2"),
        ("seed,example,label,prediction\n\n0,0,1,1\n", "four whole numbers in line 2"),
        (f"seed,example,label,prediction\n0,0,1,{'1' * 200_000}\n", "four whole numbe"),
        ("seed,example,label,prediction\n0,0,1,1\n", "1 of 1 right, got 0.95"),
    ],
)
def test_damaged_predictions_are_told_in_a_line(tmp_path, text, complaint):
    runs = single_runs(tmp_path, only_a=1, only_b=1)
    file = Path(runs[0]) / "predictions.csv"
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=complaint):
        pair_predictions(*map(read_outcome, runs))


def run_script(*args: str):
    return subprocess.run(
        [sys.executable, SCRIPT, *args], capture_output=True, text=True, timeout=300
    )


def test_the_script_from_a_shell(tmp_path):
    runs = single_runs(tmp_path, only_a=9, only_b=1)
    done = run_script(*runs, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mcnemar"]["p_value"] == pytest.approx(22 / 1024)
    edit(runs[1], "config.json", faults=None)
    refused = run_script(*runs)
    assert refused.returncode == 2
    assert refused.stderr == (
        "compare_runs.py: error: expected faults in "
        f"{runs[1]}/config.json to be a list of names, got null\n"
    )
    refused = run_script(runs[0])
    assert refused.returncode == 2
    assert refused.stderr == (
        "compare_runs.py: error: expected two workdirs, A and B, got 1\n"
    )
