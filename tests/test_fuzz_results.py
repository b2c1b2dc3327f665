"""What reads results takes anything: a valid result, or InputError in one line.

Valid small files are flipped, cut, stretched and given extreme values; or the bytes are
arbitrary. CNNJAX_SOAK=1 tries forty times as many.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

import pytest
import results
from hostile import obeyed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_compare_runs import HIGH, LOW, write_predictions, write_run
from test_hostile_pages import ROWS

from cnnjax.base.errors import InputError
from cnnjax.results import fields
from cnnjax.results.outcomes import differences, read_outcome
from cnnjax.results.predictions import read_predictions
from cnnjax.statistics.run_verdicts import compare_outcomes, side_of
from cnnjax.telling.comparison import comparison_lines

SOAK = bool(os.environ.get("CNNJAX_SOAK"))
FUZZED = settings(
    max_examples=20_000 if SOAK else 500,
    deadline=None,
    derandomize=not SOAK,
    database=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
)
TOKENS = (  # what a number, a text or a bracket may become
    *(
        b"9" * 5000,
        b"-1",
        b"1e999",
        b"NaN",
        b"-Infinity",
        b"1" + b"0" * 400,
        b"0.1e-400",
    ),
    *(b"1.7e308", b"-1.7e308", b"5e-324", b"-0.0", b"1e154"),
    *(b"18446744073709551616", b"null", b"true", b'"\\ud800"', b'"\\u001b[2J"', b'""'),
    *(b"[" * 3000, b"{" * 200, b'{"a":' * 60 + b"1" + b"}" * 60, b"[]", b"{}", b"\x00"),
    *(b"\xff\xfe", b"\xe2\x80\xa8", b"\r", b"\n\n", b"\t", b",", b":", b"\\", b'"'),
)


@st.composite
def mutated(draw, valid: bytes):
    """Draw a file: a valid one, changed in up to four places, or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        end = min(len(content), at + draw(st.sampled_from((0, 1, 2, 5, 20))))
        kind = draw(st.sampled_from(("flip", "cut", "token", "value", "double")))
        if kind == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at : draw(st.sampled_from((end, len(content))))]
        elif kind == "token":
            content[at:end] = draw(st.sampled_from(TOKENS))
        elif kind == "double":
            content[at:at] = content[at : end + 30]
        else:  # the value of a field becomes something else
            begin = content.find(b": ", at)
            stop = min(
                i
                for i in (
                    content.find(c, begin + 2) % 10**9 for c in (b",", b"}", b"\n")
                )
            )
            if begin >= 0 and stop < len(content):
                content[begin + 2 : stop] = draw(st.sampled_from(TOKENS))
    return bytes(content)


def check(read) -> None:
    """Call a reader: what it says, if it refuses, is a line for a terminal."""
    try:
        read()
    except InputError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
    assert not obeyed(said)
    assert len(said) <= 2000


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def runs(folder):
    """Two runs of several seeds, and two of one, with predictions."""
    recipe = {"loss": "softmax_cross_entropy", "optimizer": {"l2": 0.1}, "epochs": 3}
    row = {"diverged": True, "test_no_prediction": 2, "test_loss": 0.5}
    write_run(folder / "a", HIGH, settings=recipe, of_seed={0: row})
    write_run(folder / "b", LOW, settings={**recipe, "epochs": 4})
    for name, scores in (
        ("loss", (0.02, 0.021, 0.022)),
        ("losses", (0.01, 0.02, 0.04)),
    ):
        own = dict(enumerate(scores))
        write_run(folder / name, own, metric="test_loss", settings={"epochs": 2})
    for name, own in (("one", 1), ("other", 0)):
        run = write_run(folder / name, {0: 0.75 if own else 0.5}, settings=recipe)
        write_predictions(run, [0, 1, 2, 3], [0, 1, 2 * own, 0])
        edit = Path(run) / "metrics.jsonl"
        line = {"epoch": 1, "step": 9, "train_loss": 0.5, "seconds": 1.0}
        edit.write_text(f"{json.dumps(line)}\n" * 2)
    return {
        (one, file.name): file.read_bytes()
        for one in ("a", "loss", "one")
        for file in (folder / one).iterdir()
    }


def compare(a: Path, b: Path) -> None:
    """Compare as compare_runs.py does, in both forms."""
    first, second = read_outcome(str(a)), read_outcome(str(b))
    found = compare_outcomes(first, second)
    lines = comparison_lines(first, second, found)
    assert not obeyed("".join(lines))
    sides = {"a": side_of(first), "b": side_of(second)}
    told = {**sides, **found, "differ_in": differences(first, second)}
    json.dumps(told, allow_nan=False)


FILES = [
    *(("a", "result.json"), ("a", "config.json"), ("a", "seeds.jsonl")),
    ("loss", "seeds.jsonl"),
    *(("one", "result.json"), ("one", "config.json"), ("one", "predictions.csv")),
]


@pytest.mark.parametrize(("run", "file"), FILES, ids=lambda one: one)
def test_runs_that_are_compared(run, file, folder, runs):
    partner = {"a": "b", "loss": "losses", "one": "other"}[run]

    @FUZZED
    @given(mutated(runs[run, file]))
    def fuzz(content):
        (folder / run / file).write_bytes(content)
        check(lambda: compare(folder / run, folder / partner))

    try:
        fuzz()
    finally:
        (folder / run / file).write_bytes(runs[run, file])


READERS = {
    "config.json": fields.read_config,
    "result.json": fields.read_result,
    "metrics.jsonl": fields.read_epochs,
    "predictions.csv": lambda folder: read_predictions(folder, seeds=(0,)),
}


@pytest.mark.parametrize("file", READERS)
def test_files_of_a_run(file, folder, runs):
    @FUZZED
    @given(mutated(runs["one", file]))
    def fuzz(content):
        (folder / "one" / file).write_bytes(content)
        check(lambda: READERS[file](folder / "one"))

    try:
        fuzz()
    finally:
        (folder / "one" / file).write_bytes(runs["one", file])


@pytest.mark.parametrize("benchmark", ["throughput", "accuracy", "scaling"])
def test_rows_of_benchmarks(benchmark, folder):
    row = next(row for row in ROWS if row["benchmark"] == benchmark)
    path = folder / "rows.jsonl"

    @FUZZED
    @given(mutated(json.dumps(row).encode()))
    def fuzz(content):
        path.write_bytes(content)
        check(lambda: results.read(path, benchmarks=(benchmark,)))

    fuzz()


def test_a_number_of_ten_thousand_digits_is_no_traceback(folder):
    path = folder / "long.json"
    for digits in ("1" * 10_000, "-" + "1" * 10_000, "1." + "1" * 10_000, "1e99999999"):
        path.write_text(f'{{"seed": {digits}}}')
        check(lambda: fields.parse(path, path.read_text()))
    assert math.isinf(fields.parse(path, path.read_text())["seed"])
