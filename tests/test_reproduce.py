"""`scripts/reproduce.py`: plans, resumes, refuses, judges, and tells in a report."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import _campaign
import _jobs
import _lock
import _outlook
import jax
import numpy as np
import pytest
import reproduce
from absl import flags

from cnnjax import published
from cnnjax.data.dataset import Dataset
from cnnjax.data.splits import OFFICIAL, HoldOut, count_train, split_dataset
from cnnjax.errors import InputError
from cnnjax.published.run import Figure, PublishedRun, System
from cnnjax.reporting.files import write_report
from cnnjax.reporting.page import page_of
from cnnjax.reporting.pictures import pictures_of
from cnnjax.reporting.rows import end_rows_of, rows_of
from cnnjax.reporting.tables import counts_line
from cnnjax.reporting.words import text, value_text
from cnnjax.reproduction.ends import ends_of
from cnnjax.reproduction.findings import find, read_trained
from cnnjax.reproduction.others import others_of
from cnnjax.reproduction.plan import finished, plan
from cnnjax.reproduction.verdicts import judge
from cnnjax.types import Examples
from cnnjax.workdir import Workdir

ROOT = Path(__file__).parent.parent
LOSS = Figure(what="loss", metric="test_loss", value=0.02, band=(0.0, 9.0))
FIRST = Figure(what="loss", metric="train_loss", epoch=1, value=0.5)
LATER = Figure(what="loss", metric="train_loss", epoch=3, value=0.02)
TIME = Figure(what="training", metric="train_seconds", value=0.166)
ACCURACY = Figure(what="accuracy", metric="test_accuracy", value=0.96, band=(0.9, 1.0))


def system(*runs: PublishedRun, letter: str = "B") -> System:
    return System(letter=letter, title="Homework", question="Why?", runs=runs)


def house(name: str, **fields) -> PublishedRun:
    """A run that trains in a moment: a regression of three epochs."""
    fields = {"changes": {"epochs": 3}, "figures": (LOSS, FIRST, LATER, TIME), **fields}
    recipe = "tanh_mlp_housing_narrow"
    return PublishedRun(
        name=name, title="5-8-1", recipe=recipe, one_core=True, **fields
    )


def image(name: str, **fields) -> PublishedRun:
    fields = {"figures": (ACCURACY, TIME), **fields}
    return PublishedRun(name=name, title="a CNN", recipe="sgd_dropout_cnn", **fields)


@pytest.fixture(scope="module")
def houses(tmp_path_factory) -> str:
    """A folder with a table of 20 houses."""
    folder = tmp_path_factory.mktemp("houses")
    rows = np.random.default_rng(0).integers(1, 99, (20, 6)).tolist()
    lines = ["price,area,bedrooms,bathrooms,stories,parking"]
    lines += [",".join(map(str, row)) for row in rows]
    (folder / "Housing.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, houses):
    """Call the script's main with systems; return (status, its lines, its errors)."""
    monkeypatch.setattr(_jobs.signal, "signal", lambda *_: None)  # pytest's stay
    cache = os.environ["JAX_COMPILATION_CACHE_DIR"]
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)

    def run(*systems: System, args: tuple[str, ...] = (), data: bool = True):
        table = {one.letter: one for one in systems}
        monkeypatch.setattr(published, "SYSTEMS", table)
        data_dir = (f"--data_dir={houses}",) if data else ()
        given = (*data_dir, f"--workdir={tmp_path / 'w'}", *args)
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["reproduce.py", *given])
        status = 0
        try:
            reproduce.main([])
        except SystemExit as ended:
            status = ended.code
        told = capsys.readouterr()
        return status, told.out, told.err

    yield run
    for name in ("scale", "systems", "data_dir", "workdir", "jobs", "report_only"):
        flags.FLAGS[name].unparse()


def write_job(job, *, lines=(), predictions=None, **result) -> None:
    """Write what train.py leaves of a job."""
    job.folder.mkdir(parents=True)
    workdir = Workdir(job.folder)
    config = {"recipe": job.recipe, "faults": job.run.faults, "seed": job.seed}
    workdir.write_json("config.json", config)
    workdir.write_bytes("metrics.jsonl", b"")
    for line in lines:
        workdir.append_json_line("metrics.jsonl", line)
    if predictions is not None:
        workdir.append_predictions(job.seed, *map(np.array, predictions))
    environment = {"date": "2026-01-01", "num_cores": 1, "machine": "x86_64"}
    environment |= {"python": "3.13", "jax": "1", "flax": "1", "optax": "1"}
    environment |= {"num_devices": 1, "device_kind": "cpu", "platform": "cpu"}
    environment |= {"num_processes": 1, "commit": "abc"}
    workdir.write_json("result.json", {"environment": environment, **result})


def findings_of(systems, jobs, why="not trained yet"):
    trained = {job.folder: read_trained(job) for job in jobs if job.done}
    return find(systems, jobs, trained, reason_fn=lambda job: why)


def test_two_runs_are_trained_reported_and_not_trained_again(call, tmp_path):
    systems = system(
        house("one", explanation="It is small."),
        house("two", changes={"epochs": 4}, corrects="one"),
    )
    status, out, err = call(systems, args=("--scale=full",))
    assert (status, err) == (0, "")
    assert "0 of 2 jobs are done already" in out
    assert "B two seed 0: done" in out
    assert re.search(
        r"2 in band, 0 out of band, \d+ no band, 0 open; "
        r"published 0 like ours, 0 not; \d+ s$",
        out.strip(),
    )
    workdir = tmp_path / "w"
    report = (workdir / "report.md").read_text()
    assert "scale full, 2 of 2 jobs done" in report
    rows = json.loads((workdir / "results.json").read_text())["rows"]
    assert len(rows) == 8
    assert {row["verdict"] for row in rows} == {"in band", "no band"}
    lines = (workdir / "B/one/seed_0/metrics.jsonl").read_text().splitlines()
    later = next(row for row in rows if row["run"] == "one" and row["epoch"] == 3)
    assert later["ours"] == json.loads(lines[2])["train_loss"]
    time_row = next(row for row in rows if row["metric"] == "train_seconds")
    assert time_row["times_as_fast"] == pytest.approx(0.166 / time_row["ours"])
    assert sorted(path.name for path in (workdir / "pictures").iterdir()) == [
        "B_one.png"  # the correction is drawn beside what it corrects
    ]
    environment = json.loads((workdir / "B/one/seed_0/result.json").read_text())
    cores = environment["environment"]["num_cores"]
    assert cores == 1 or not hasattr(os, "sched_setaffinity")

    before = (workdir / "B/one/seed_0/result.json").stat().st_mtime_ns
    status, out, err = call(systems, args=("--scale=full",))
    assert (status, err) == (0, "")
    assert "2 of 2 jobs are done already" in out
    assert "seed 0: done" not in out
    assert (workdir / "B/one/seed_0/result.json").stat().st_mtime_ns == before


def test_a_failed_job_is_told_and_the_others_go_on(call, tmp_path):
    run = house("broken", faults=("one_dropout_mask_for_all",))  # there is no dropout
    status, out, err = call(system(run, house("sound")))
    assert status == 1
    assert "B broken seed 0: FAILED with status 2: train.py: error: " in out
    assert err.startswith("FAILED B broken seed 0: train.py: error: ")
    assert "B sound seed 0: done" in out
    report = (tmp_path / "w" / "report.md").read_text()
    assert "- B `broken`: failed: train.py: error: " in report
    assert "open: failed, see above" in report
    status, out, err = call(system(run, house("sound")), args=("--report_only",))
    assert (status, err) == (0, "")
    assert "open: failed, see above" in (tmp_path / "w" / "report.md").read_text()


def test_missing_data_is_explained_and_the_rest_reported(call, tmp_path):
    systems = system(image("pictures"), house("houses"))
    for job in plan([systems], scale="quick", workdir=tmp_path / "w"):
        if job.run.name == "houses":
            write_job(job, test_loss=0.01, train_seconds=0.083)
    status, out, err = call(systems)
    assert (status, err) == (0, "")
    assert "left out: mnist is missing: " in out
    report = (tmp_path / "w" / "report.md").read_text()
    assert report.count("open: mnist is missing, see above") == 2
    assert report.count("train-images-idx3-ubyte") == 1  # once, above all tables
    assert "- B `pictures`: mnist is missing" in report
    with pytest.raises(InputError, match="train-images-idx3-ubyte"):
        call(system(image("pictures"), letter="C"))


def test_a_run_with_other_settings_is_refused(tmp_path, call):
    systems = system(house("one"))
    (job,) = plan([systems], scale="full", workdir=tmp_path / "w")
    write_job(job, test_loss=0.01)
    assert plan([systems], scale="full", workdir=tmp_path / "w") == [job]
    changed = system(house("one", changes={"epochs": 3, "learning_rate": 0.02}))
    complaint = "B one seed 0: recipe.optimizer.learning_rate was 0.01, and .* 0.02"
    with pytest.raises(InputError, match=complaint):
        call(changed, args=("--report_only",))
    faulty = system(house("one", faults=("optimizer_of_other_parameters",)))
    with pytest.raises(InputError, match="seed_0 holds another run .*: faults was"):
        plan([faulty], scale="full", workdir=tmp_path / "w")
    # An unfinished one is another's, too.
    (job.folder / "result.json").unlink()
    with pytest.raises(InputError, match="holds another run"):
        plan([changed], scale="full", workdir=tmp_path / "w")
    (job.folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is damaged"):
        plan([systems], scale="full", workdir=tmp_path / "w")


def test_a_short_run_is_never_taken_for_a_whole_one(tmp_path):
    systems = [system(house("one", quick_epochs=2, seeds=3))]
    (quick,) = plan(systems, scale="quick", workdir=tmp_path)
    assert quick.folder == tmp_path / "B/one/2_epochs/seed_0"
    assert quick.recipe.epochs == 2
    assert "--epochs=2" in quick.flags("d")
    lines = [{"epoch": n, "train_loss": 0.1 * n} for n in (1, 2)]
    write_job(quick, lines=lines, test_loss=0.01, train_seconds=2.0)
    full = plan(systems, scale="full", workdir=tmp_path)
    assert [job.folder for job in full] == [
        tmp_path / f"B/one/seed_{seed}" for seed in range(3)
    ]
    assert not any(job.done for job in full)

    loss, first, later, seconds = findings_of(systems, [quick])[0].figures
    assert (loss.verdict, later.verdict) == ("open", "open")
    assert loss.note == "is of all 3 epochs; here 2 are trained"
    assert later.note == "is of epoch 3; here 2 are trained"
    assert first.ours.mean == 0.1
    assert seconds.ours.mean == pytest.approx(3.0)
    assert seconds.note == "scaled up from 2 to 3 epochs"

    # A whole one serves the quick scale.
    write_job(full[0], test_loss=0.01)
    assert plan(systems, scale="quick", workdir=tmp_path) == [full[0]]


def test_a_run_that_is_too_long_for_the_quick_scale_is_told(tmp_path):
    systems = [system(house("long", at_quick=False), house("one"))]
    jobs = plan(systems, scale="quick", workdir=tmp_path)
    assert [job.run.name for job in jobs] == ["one"]
    assert len(plan(systems, scale="full", workdir=tmp_path)) == 2
    findings = findings_of(systems, jobs)
    assert {row.verdict for row in findings[0].figures} == {"open"}
    write_report(tmp_path, findings, facts=[], others={})
    report = (tmp_path / "report.md").read_text()
    assert "3 epochs, trained at full scale only. No fault." in report
    assert report.count("open: trained at full scale only") == len(findings[0].figures)


@pytest.mark.parametrize(
    ("fields", "values", "verdict", "note"),
    [
        ({"band": (0.95, 0.97)}, [0.96], "in band", ""),
        ({"band": (0.95, 0.97)}, [0.96, 0.99], "out of band", "unexplained"),
        ({"band": (0.95, 0.97)}, [0.90, 1.02], "in band", ""),
        # Never explained by the way: only by a reason of its own.
        (
            {"band": (0.95, 0.97), "remark": "Seen."},
            [0.1],
            "out of band",
            "unexplained; Seen.",
        ),
        (
            {"band": (0.95, 0.97), "remark": "Seen.", "why_out": "Few seeds."},
            [0.1],
            "out of band",
            "Few seeds.; Seen.",
        ),
        ({"band": (0.95, 0.97), "why_out": "Few seeds."}, [0.96], "in band", ""),
        # Judged at the precision that is shown: 97.00 % is in a band up to 97.00 %.
        ({"band": (0.95, 0.97)}, [0.970049], "in band", ""),
        ({"band": (0.95, 0.97)}, [0.970051], "out of band", "unexplained"),
        ({}, [0.2], "no band", ""),
        ({"remark": "Another seed."}, [0.2], "no band", "Another seed."),
        ({"value": math.nan}, [None, None], "in band", "not a number, as published"),
        ({"value": math.nan, "remark": "Raced."}, [0.5], "no band", "Raced."),
        ({"value": math.nan}, [None, 0.5], "no band", "not a number in 1 of 2 seeds"),
        (
            {"band": (0.95, 0.97)},
            [0.96, None],
            "out of band",
            "not a number in 1 of 2 seeds; unexplained",
        ),
        ({}, [None], "no band", "not a number in 1 of 1 seeds"),
    ],
)
def test_verdicts(fields, values, verdict, note):
    fields = {"what": "accuracy", "metric": "test_accuracy", "value": 0.96, **fields}
    judged = judge(Figure(**fields), values)
    assert (judged.verdict, judged.note) == (verdict, note)


def test_a_size_needs_no_training(tmp_path):
    sizes = [
        Figure(what="size", metric="parameters", value=57.0, band=(57.0, 57.0)),
        Figure(what="size", metric="macs_per_example", value=9.0, band=(9.0, 9.0)),
    ]
    systems = [system(house("one", figures=tuple(sizes)))]
    jobs = plan(systems, scale="quick", workdir=tmp_path)
    (findings,) = findings_of(systems, jobs)
    assert [one.verdict for one in findings.figures] == ["in band", "out of band"]
    assert [one.ours.mean for one in findings.figures] == [57, 48]


@pytest.mark.parametrize(
    ("metric", "published", "ours", "times"),
    [
        ("train_seconds", 100.0, 25.0, 4.0),
        ("seconds", 10.0, 20.0, 0.5),
        ("examples_per_second", 600.0, 7200.0, 12.0),
        ("train_loss", 1.0, 2.0, None),
        ("compile_seconds", 0.0, 2.0, None),
        ("train_seconds", None, 2.0, None),
        ("train_seconds", 1.0, None, None),
        ("train_seconds", 1.0, 0.0, None),
    ],
)
def test_how_many_times_as_fast(metric, published, ours, times):
    judged = judge(Figure(what="time", metric=metric, value=published), [ours])
    assert judged.times_as_fast == times


@pytest.mark.parametrize(
    ("of_epochs", "done", "seconds", "note"),
    [
        (10, 10, 90.0, ""),  # the quick scale of a run of 20
        (10, 20, 45.0, "scaled down from 20 to 10 epochs"),
        (None, 10, 180.0, "scaled up from 10 to 20 epochs"),
        (None, 20, 90.0, ""),
    ],
)
def test_a_time_is_scaled_to_the_epochs_it_is_of(
    of_epochs, done, seconds, note, tmp_path
):
    figures = (
        Figure(what="t", metric="train_seconds", value=87, of_epochs=of_epochs),
        Figure(what="c", metric="compile_seconds", value=1),
    )
    run = house("one", changes={"epochs": 20}, quick_epochs=10, figures=figures)
    scale = "quick" if done < 20 else "full"
    jobs = plan([system(run)], scale=scale, workdir=tmp_path)
    write_job(jobs[0], train_seconds=90.0, compile_seconds=2.0)
    time_row, compilation = findings_of([system(run)], jobs)[0].figures
    assert (time_row.ours.mean, time_row.note) == (seconds, note)
    assert time_row.times_as_fast == 87 / seconds
    # Compiled is once, however many epochs are trained.
    assert (compilation.verdict, compilation.ours.mean) == ("no band", 2.0)


def test_a_published_nan_is_neither_like_ours_nor_unlike():
    figure = Figure(what="loss", metric="train_loss", value=math.nan)
    judged = judge(figure, [1.0, 2.0, 3.0])
    assert judged.one_more is not None
    assert judged.like_ours is None


def test_classes_that_die_and_runs_that_collapse_are_counted(tmp_path):
    systems = [system(image("cnn", seeds=3, explanation="Softmax, twice."))]
    jobs = plan(systems, scale="full", workdir=tmp_path)
    high, low = 0.95, 0.21
    curves = ([0.5, high], [high, low], [low, low])
    predictions = ([0, 1, 2], [0, 1, 1], [0, 1, 2])
    for job, curve, predicted in zip(jobs, curves, predictions, strict=True):
        lines = [{"epoch": n + 1, "test_accuracy": a} for n, a in enumerate(curve)]
        classes = ([0, 1, 2], predicted)
        score = curve[-1]
        write_job(job, lines=lines, predictions=classes, test_accuracy=score)
    findings = findings_of(systems, jobs)
    assert [one.dead_classes for one in findings[0].trained] == [(), (2,), ()]
    assert [one.collapsed for one in findings[0].trained] == [False, True, False]
    write_report(tmp_path, findings, facts=["of today"], others={})
    report = (tmp_path / "report.md").read_text()
    assert "in 1 of 3 seeds (seed 1 never predicts 2). Collapsed" in report
    assert "below 50 %: 1 of 3 seeds (1)." in report
    assert "n = 3) | 90.00 to 100.00 % | **out of band**: unexplained |" in report
    assert "Softmax, twice." in report


def test_who_is_tested_once_is_not_said_to_have_kept_its_accuracy(tmp_path):
    systems = [system(image("cnn", evaluate_every=0))]
    (job,) = plan(systems, scale="full", workdir=tmp_path)
    lines = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "test_accuracy": 0.1}]
    write_job(job, lines=lines, predictions=([0, 1], [0, 1]), test_accuracy=0.1)
    write_report(tmp_path, findings_of(systems, [job]), facts=[], others={})
    report = (tmp_path / "report.md").read_text()
    assert "\n\nClasses never predicted: in 0 of 1 seeds.\n" in report
    assert "Collapsed" not in report


def test_every_run_tells_what_it_came_to(tmp_path):
    """Also one of which nothing was published, at the epochs of its siblings'."""
    named = [
        Figure(what="a", metric="test_accuracy", epoch=n, value=0.9) for n in (1, 9)
    ]
    kept = {"changes": {"epochs": 2}, "seeds": 3}
    runs = image("named", figures=tuple(named)), image("bare", figures=(), **kept)
    systems = [system(*runs, house("rows", figures=()))]
    jobs = plan(systems, scale="full", workdir=tmp_path)
    bare = [job for job in jobs if job.run.name == "bare"]
    for job, (first, last), loss in zip(
        bare, ([0.1, 0.2], [0.3, 0.6], [0.5, 0.7]), [1.5, 0.5, None], strict=True
    ):
        lines = [
            {"epoch": 1, "train_loss": 2.0, "test_loss": 2.0, "test_accuracy": first},
            {"epoch": 2, "train_loss": loss, "test_loss": 1.0, "test_accuracy": last},
        ]
        write_job(job, lines=lines)
    lines = [{"epoch": 3, "train_loss": 0.01, "test_loss": 0.02, "test_accuracy": None}]
    write_job(jobs[-1], lines=lines)
    findings = findings_of(systems, jobs)
    assert ends_of(findings[0]) == []
    assert {end.epoch for end in ends_of(findings[1])} == {1, 2}
    assert [end.metric for end in ends_of(findings[2])] == ["train_loss", "test_loss"]
    write_report(tmp_path, findings, facts=[], others={})
    report = (tmp_path / "report.md").read_text()
    head = "| ours, after epoch | train loss | test loss | test accuracy | n |"
    assert head in report
    assert "| 1 | 2 | 2 | 30.00 % (10.00 to 50.00 %) | 3 |" in report
    told = "| 2 | 1 (0.5 to 1.5); nan in 1 of 3 | 1 | 50.00 % (20.00 to 70.00 %) | 3 |"
    assert told in report
    assert "| 3 | 0.01 | 0.02 | 1 |" in report  # a regression has no accuracy
    rows = json.loads((tmp_path / "results.json").read_text())["ends"]
    assert rows == json.loads(json.dumps(end_rows_of(findings)))
    (row,) = [r for r in rows if (r["metric"], r["epoch"]) == ("train_loss", 2)]
    assert (row["mean"], row["lowest"], row["highest"]) == (1.0, 0.5, 1.5)
    assert (row["n"], row["num_seeds"]) == (2, 3)


def test_published_values_like_ours_are_counted_and_all_numbers_are_kept(tmp_path):
    metrics = {"like": 2.0, "unlike": 9.0, "lost": math.nan}
    figures = [
        Figure(what=what, metric="train_loss", epoch=1, value=value)
        for what, value in metrics.items()
    ]
    figures.append(Figure(what="size", metric="parameters", value=9))
    figures.append(Figure(what="some", metric="train_accuracy", epoch=1, value=0.5))
    systems = [system(house("one", seeds=3, figures=tuple(figures)))]
    jobs = plan(systems, scale="full", workdir=tmp_path)
    for job, loss, accuracy in zip(
        jobs, [1.0, 2.0, 3.0], [0.5, 0.7, None], strict=True
    ):
        line = {"epoch": 1, "train_loss": loss, "train_accuracy": accuracy}
        write_job(job, lines=[line])
    findings = findings_of(systems, jobs)
    assert counts_line(findings).endswith("; published 1 like ours, 1 not")
    write_report(tmp_path, findings, facts=[], others={})
    report = (tmp_path / "report.md").read_text()
    assert "| like ours | unlike ours |" in report
    assert "| 3 of 3 | 0 | 0 | 5 | 0 | 1 | 1 |" in report
    assert "| size |  | 9 | 57 | - | no band |" in report  # a size has no spread
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert rows == json.loads(json.dumps(rows_of(findings)))
    like, unlike, lost, size, some = rows
    assert (like["like_ours"], unlike["like_ours"], lost["like_ours"]) == (1, 0, None)
    assert lost["published"] == "nan"
    assert like["one_more_seed"] == pytest.approx([-2.968, 6.968], abs=1e-3)
    assert (like["n"], size["n"], some["n"]) == (3, 1, 2)
    assert some["seeds"] == [0, 1, 2]


def test_what_is_known_of_system_a_is_said_where_it_is_out_of_band():
    system_a = published.get_system("A")
    for name in ("serial", "per_operation", "per_sample_leak"):
        ends = [
            figure
            for figure in system_a.run(name).figures
            if figure.band and (figure.metric, figure.epoch) == ("test_accuracy", 5)
        ]
        assert ends
        assert all(figure.why_out for figure in ends)


@pytest.mark.parametrize(
    ("split", "num_train"), [(OFFICIAL, None), (OFFICIAL, 7), (HoldOut(0.3), None)]
)
def test_how_many_are_trained_on_is_known_without_a_split(split, num_train):
    examples = Examples(np.zeros((15, 2)), np.zeros(15, np.int32))
    dataset = Dataset(name="d", train=examples, test=examples, class_names=())
    key = jax.random.key(0)
    kept, _ = split_dataset(dataset, split, key=key, num_train=num_train)
    assert count_train(dataset, split, num_train=num_train) == len(kept.labels)


def test_markdown_and_page_have_a_row_for_every_figure(tmp_path):
    runs = (
        house("one", faults=("optimizer_of_other_parameters",)),
        house("right", corrects="one"),
    )
    systems = [system(*runs), system(image("cnn"), letter="C")]
    jobs = plan(systems, scale="quick", workdir=tmp_path)
    lines = [{"epoch": n, "train_loss": 0.1 / n, "seconds": 1.0} for n in (1, 2, 3)]
    for job in jobs[:2]:
        write_job(job, lines=lines, test_loss=0.01, train_seconds=0.083)
    findings = findings_of(systems, jobs, why="x | y <z> *w* is\nmissing")
    write_report(tmp_path, findings, facts=["of today"], others={})
    report = (tmp_path / "report.md").read_text()
    tables = report.split("## B.")[1]
    rows = [
        line for line in tables.splitlines() if line.startswith(("| l", "| t", "| a"))
    ]
    heads = [line for line in rows if line.startswith("| time | epoch")]
    assert len(rows) - len(heads) == sum(len(run.figures) for run in runs) + 2
    assert all(line.count("|") == 7 for line in rows)
    assert "| training |  | 0.166 s | 0.083 s | 2 |  |" in rows
    assert any(r.startswith("| loss | 3 | 0.02 | 0.033333 | - | no band") for r in rows)
    page = (tmp_path / "report.html").read_text()
    body = re.findall(r"<tr>\s*<td>(?:loss|training|accuracy)", page)
    assert len(body) == len(rows) - len(heads)
    assert "x &#124; y &lt;z&gt; &#42;w&#42; is missing" in page or (
        "x | y &lt;z&gt; *w* is missing" in page
    )
    # Complete in itself: the picture is inside, and nothing is fetched.
    assert page.count('src="data:image/png;base64,') == 1
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    (picture,) = pictures_of(findings).values()
    assert [one.run.name for one in picture.group] == ["right", "one"]
    assert (tmp_path / "pictures/B_one.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_that_is_no_number_all_along_is_drawn_empty(tmp_path):
    systems = [system(house("one"))]
    (job,) = plan(systems, scale="full", workdir=tmp_path)
    write_job(job, lines=[{"epoch": 1, "train_loss": None}], test_loss=None)
    findings = findings_of(systems, [job])
    write_report(tmp_path, findings, facts=[], others={})
    assert (tmp_path / "pictures/B_one.png").exists()
    report = (tmp_path / "report.md").read_text()
    assert (
        "| loss |  | 0.02 | nan | 0 to 9 | **out of band**: not a number in" in report
    )


def test_system_e_is_drawn_beside_ten_biases_without_a_network(tmp_path):
    faults = ("entropy_reported_as_loss",)
    wide = PublishedRun(name="e", title="E", recipe="sgd_wide_cnn", faults=faults)
    systems = [system(wide, image("cnn"), letter="E")]
    jobs = plan(systems, scale="quick", workdir=tmp_path)
    labels = np.arange(200, dtype=np.int32) % 10
    examples = Examples(np.zeros((200, 28, 28, 1), np.uint8), labels)
    mnist = Dataset(name="mnist", train=examples, test=None, class_names=())
    datasets = {"mnist": mnist}
    others = others_of(findings_of(systems, jobs), datasets)
    assert list(others) == [("E", "e", "train_loss")]
    ((name, points),) = others["E", "e", "train_loss"].items()
    assert name == "ten biases, no network"
    assert len(points) == 73
    assert points[0] == (1, pytest.approx(math.log(10), rel=1e-4))
    assert others_of(findings_of(systems, jobs), {}) == {}


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_published_number_has_its_row(scale, tmp_path):
    systems = list(published.SYSTEMS.values())
    jobs = plan(systems, scale=scale, workdir=tmp_path)
    names = [job.name for job in jobs]
    assert len(names) == len(set(names)) == len({job.folder for job in jobs})
    findings = findings_of(systems, jobs)
    write_report(tmp_path, findings, facts=[], others={})
    figures = [figure for one in systems for run in one.runs for figure in run.figures]
    report = (tmp_path / "report.md").read_text()
    tables = report.partition("## A.")[2]
    reasons = ("not trained yet", "trained at full scale only")
    rows = sum(tables.count(f"| open: {reason} |") for reason in reasons)
    sizes = [f for f in figures if f.metric in ("parameters", "macs_per_example")]
    assert rows == len(figures) - len(sizes)
    judged = [row for one in findings for row in one.figures if row.figure in sizes]
    assert {row.verdict for row in judged} <= {"in band", "no band"}
    page = (tmp_path / "report.html").read_text().partition("<h2>A.")[2]
    assert page.count("<tr>\n<td>") == len(figures)


def test_a_picture_that_is_missing_is_told(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*pictures/x\.png"):
        page_of("![x](pictures/x.png)", folder=tmp_path, title="t")


def test_words_stay_as_they_are():
    assert text("a|b\n<c> `d`") == "a&#124;b &lt;c&gt; &#96;d&#96;"
    assert value_text("test_accuracy", None) == "-"
    assert value_text("train_loss", math.nan) == "nan"
    assert value_text("step", 240_000) == "240,000"  # counted, not measured


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("--systems=Z",), "unknown system 'Z'; known: B"),
        (("--systems=",), "expected letters for --systems"),
        (("--jobs=10000",), "expected --jobs of at most"),
        (("--data_dir=",), "expected a folder for --data_dir, got ''"),
        (("--report_only",), "nothing to report: no finished run in"),
        (("--workdir=/dev/null/x",), "cannot write into /dev/null/x"),
    ],
)
def test_bad_input_is_told_in_a_line(call, args, complaint):
    with pytest.raises(InputError, match=complaint):
        call(system(house("one")), args=args)


def test_nobody_else_works_in_the_same_folder(tmp_path):
    with (
        _lock.alone_in(tmp_path),
        pytest.raises(InputError, match="another reproduce.py"),
        _lock.alone_in(tmp_path),
    ):
        pass
    with _lock.alone_in(tmp_path):
        pass


def test_a_folder_that_cannot_be_locked_is_told_as_that(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    complaint = "cannot lock .*: No locks available; choose another --workdir"
    with pytest.raises(InputError, match=complaint), _lock.alone_in(tmp_path):
        pass


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        (
            "os.kill(os.getpid(), 9)",
            -9,
            "ended by signal 9 (SIGKILL), as where memory runs out: try fewer --jobs",
        ),
        (
            "os.write(2, b'Check failed'); os.kill(os.getpid(), 6)",
            -6,
            "ended by signal 6 (SIGABRT); before: Check failed",
        ),
        ("os._exit(3)", 3, "ended with status 3"),
    ],
)
def test_a_job_that_cannot_say_why_it_ended(
    program, status, said, call, monkeypatch, tmp_path
):
    script = tmp_path / "train.py"
    script.write_text(f"import os\n{program}\n")
    monkeypatch.setattr(_jobs, "TRAIN", script)
    ended, out, err = call(system(house("one")))
    assert ended == 1
    assert f"B one seed 0: FAILED with status {status}: {said}" in out
    assert err == f"FAILED B one seed 0: {said}\n"
    complaint = tmp_path / "w/B/one/seed_0.stderr"
    assert complaint.read_text().endswith(f"{said}\n")
    assert f"- B `one`: failed: {said}\n" in (tmp_path / "w/report.md").read_text()


def test_a_report_that_fails_ends_no_training(call, monkeypatch, tmp_path):
    written = []

    def write(*args, **kwargs):
        written.append(1)
        if len(written) == 2:  # after the first job
            raise InputError("no room")
        write_report(*args, **kwargs)

    monkeypatch.setattr(_campaign, "write_report", write)
    status, out, err = call(system(house("one"), house("two")), args=("--jobs=1",))
    assert (status, err) == (0, "")
    assert out.count("no report for now: no room") == 1
    assert "2 of 2 jobs done" in (tmp_path / "w" / "report.md").read_text()


def test_a_report_is_of_all_that_is_finished(call, monkeypatch, tmp_path):
    """Other systems stay in it, and a fuller scale is not replaced by the quick one."""
    written = []

    def write(folder, findings, **kwargs):
        written.append(findings)
        write_report(folder, findings, **kwargs)

    monkeypatch.setattr(_campaign, "write_report", write)
    to = tmp_path / "w"
    one = system(house("one", seeds=3, quick_epochs=2), house("no"), letter="A")
    two, three = system(house("two")), system(house("three"), letter="C")
    short, _ = plan([one], scale="quick", workdir=to)
    whole = plan([one], scale="full", workdir=to)[1:3]
    result = {"test_loss": 0.01, "train_seconds": 1.0}
    for job in (short, *whole, *plan([two], scale="full", workdir=to)):
        write_job(job, lines=[{"epoch": 1, "train_loss": 0.5}], **result)

    # Without a folder of data; the third system has nothing, and is not chosen.
    status, _, err = call(
        *(one, two, three), args=("--report_only", "--systems=B"), data=False
    )
    assert (status, err) == (0, "")
    (findings,) = written  # once
    assert [(f.system.letter, f.run.name) for f in findings] == [
        *(("A", "one"), ("A", "no"), ("B", "two"))
    ]
    assert [t.job.folder.name for t in findings[0].trained] == ["seed_1", "seed_2"]
    assert all(t.job.whole for t in findings[0].trained)
    report = (to / "report.md").read_text()
    assert "3 epochs, 2 of 3 seeds trained in" in report  # of the first, a short one
    assert "3 epochs, not trained yet. No fault." in report
    assert "scale quick, 1 of 1 jobs done" in report

    # Chosen at full scale.
    args = ("--report_only", "--systems=A", "--scale=full")
    call(one, two, three, args=args, data=False)
    assert "2 of 3 seeds trained" in (to / "report.md").read_text()
    assert "2 of 4 jobs done" in (to / "report.md").read_text()

    # Only what is cut short is finished: full scale shows it until there is more.
    for job in whole:
        (job.folder / "result.json").unlink()
    assert finished([one], workdir=to) == [short]
    call(one, two, three, args=args, data=False)
    report = (to / "report.md").read_text()
    assert "2 epochs (of 3: the quick scale), 1 of 3 seeds trained" in report
    assert "0 of 4 jobs done" in report


def test_the_time_left_is_shared_out_by_work(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_outlook.time, "monotonic", lambda: now[0])
    jobs = plan([system(house("a"), house("b"))], scale="quick", workdir=tmp_path)
    with _outlook.Outlook({jobs[0].name: 3e12, jobs[1].name: 1e12}, jobs) as outlook:
        assert outlook.line() == "0/2 jobs, 0 s"
        now[0] = 90.0
        outlook.end(jobs[0])
        assert outlook.line() == "1/2 jobs, 1 min 30 s, 30 s left"
        outlook.end(jobs[1])
        assert outlook.line() == "2/2 jobs, 1 min 30 s"


DRIVER = """
import sys
import _script, reproduce, test_reproduce
from cnnjax import published
from cnnjax.data.dataset import Dataset
run = test_reproduce.house("long", changes={"epochs": 10_000_000}, figures=())
published.SYSTEMS = {"B": test_reproduce.system(run)}
_script.run(reproduce.main)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
def test_sigterm_ends_the_children_and_says_how_to_go_on(tmp_path, houses):
    paths = [str(ROOT / "scripts"), str(ROOT / "tests")]
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, f"--data_dir={houses}", f"--workdir={tmp_path}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    metrics = tmp_path / "B/long/seed_0/metrics.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.stat().st_size):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (child,) = map(int, children.read_text().split())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert err == "reproduce.py: stopped; the same command goes on where it stopped\n"
    assert not Path(f"/proc/{child}").exists()
    assert "not trained yet" not in out
    assert not (tmp_path / "B/long/seed_0.stderr").exists()  # no failure
    assert (tmp_path / "report.md").exists()
