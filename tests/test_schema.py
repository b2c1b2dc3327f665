"""The fields of a run's files: declared once, written and read by that."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from published_runs import house, system, write_job

from cnnjax.base.errors import InputError
from cnnjax.results import fields, schema
from cnnjax.results.environment import describe_environment
from cnnjax.results.outcomes import read_outcome
from cnnjax.studies.reproduction.findings import read_trained
from cnnjax.studies.reproduction.plan import plan

TRAIN = Path(__file__).parent.parent / "scripts" / "train.py"
QUICK = ("--recipe=momentum_mlp_per_sample", "--num_train=64", "--batch_size=32")
SCHEMAS = {
    name: value for name, value in vars(schema).items() if type(value) is schema.Schema
}
KINDS = {str, int, float, bool, dict, schema.NAMES, schema.NUMBERS}


def records_of(folder: Path) -> dict[str, list[dict]]:
    """Return the records of every file of JSON, by the file's name."""
    texts = {path.name: path.read_text() for path in folder.glob("*.json*")}
    return {
        name: [json.loads(line) for line in text.splitlines()]
        if name.endswith("l")
        else [json.loads(text)]
        for name, text in texts.items()
    }


@pytest.mark.parametrize(
    ("flags", "files"),
    [
        ((), {"config.json": schema.CONFIG, "result.json": schema.RESULT}),
        (
            ("--num_seeds=2",),
            {
                "config.json": schema.CONFIG,
                "result.json": schema.RESULT_OF_SEEDS,
                "seeds.jsonl": schema.SEED,
            },
        ),
    ],
)
def test_what_is_written_is_what_is_declared(flags, files, forks, tmp_path):
    given = (*QUICK, *flags, "--epochs=2", "--workdir=run")
    done = forks.run(TRAIN, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = records_of(tmp_path / "run")
    files = {**files, "metrics.jsonl": schema.EPOCH}
    assert records.keys() == files.keys()
    for name, kind in files.items():
        for row in records[name]:
            assert schema.record(kind, row) == row
            assert list(row) == [name for name in kind.fields if name in row]
    environment = records["result.json"][0]["environment"]
    assert schema.record(schema.ENVIRONMENT, environment) == environment
    outcome = read_outcome(str(tmp_path / "run"))
    assert len(outcome.scores) == (2 if flags else 1)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_described(name):
    for field in SCHEMAS[name].fields.values():
        assert field.what
        assert field.kind in KINDS


def test_a_field_that_is_not_declared_or_missing_is_a_fault():
    good = {"seed": 0, "dead_classes": [], "diverged": False, "train_seconds": 1.0}
    good["test_no_prediction"] = None
    assert schema.record(schema.SEED, good) == good
    with pytest.raises(ValueError, match=r"seeds\.jsonl: sede is not declared"):
        schema.record(schema.SEED, {**good, "sede": 1})
    with pytest.raises(ValueError, match="train_seconds is missing"):
        schema.record(schema.SEED, {k: good[k] for k in good if k != "train_seconds"})
    for wrong in ({"seed": True}, {"seed": 1.5}, {"diverged": 0}, {"seed": None}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"{name} is not a "):
            schema.record(schema.SEED, good | wrong)


def test_numbers_of_numpy_and_not_finite_ones_are_numbers():
    losses = {"train_loss": np.float32(1.0), "test_loss": math.nan}
    values = {"epoch": np.int64(1), "step": 1, "learning_rate": 0.1, **losses}
    values |= {"seconds": 1.0, "examples_per_second": 2}
    assert schema.record(schema.EPOCH, values)["train_loss"] == 1.0


def test_every_name_has_one_type():
    """result.json of one seed, and of several, is read by one schema."""
    kinds: dict[str, set[str]] = {}
    for one in SCHEMAS.keys() - {"CONFIG"}:
        for name, field in SCHEMAS[one].fields.items():
            kinds.setdefault(name, set()).add(str(field.kind))
    assert [name for name, own in kinds.items() if len(own) > 1] == []


def test_an_old_result_is_still_read(tmp_path):
    """Of before a field was there, or with one that is gone."""
    (job,) = plan([system(house("one"))], scale="full", workdir=tmp_path)
    write_job(job, lines=[{"epoch": 1, "train_loss": None, "gone": "x"}], test_loss=0.1)
    trained = read_trained(job)
    assert trained.result["test_loss"] == 0.1
    assert trained.lines == [{"epoch": 1, "train_loss": None, "gone": "x"}]


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("result.json", '{"test_loss": "low"}', 'test_loss in .*, got "low"'),
        ("result.json", "{", "result.json is damaged"),
        ("metrics.jsonl", '{"epoch": 1.5}\n', "epoch in .*metrics.jsonl .* got 1.5"),
        ("config.json", '{"faults": 5}', "faults in .* list of names, got 5"),
        ("config.json", '{"seeds": ["a"]}', "seeds in .* whole numbers from 0, got"),
    ],
)
def test_an_edited_file_is_told_by_file_and_field(tmp_path, file, text, complaint):
    (tmp_path / file).write_text(text)
    read = {
        "result.json": fields.read_result,
        "metrics.jsonl": fields.read_epochs,
        "config.json": fields.read_config,
    }
    with pytest.raises(InputError, match=complaint):
        read[file](tmp_path)


def test_the_environment_is_that_of_the_schema():
    assert list(describe_environment()) == list(schema.ENVIRONMENT.fields)
