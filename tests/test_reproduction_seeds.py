"""What the seeds of a run came to: dead classes, collapses, ends, values like ours."""

from __future__ import annotations

import json
import math

import pytest
from published_runs import findings_of, house, image, system, write_job

from cnnjax.studies.published.run import Figure
from cnnjax.studies.reporting.counts import counts_line
from cnnjax.studies.reporting.files import write_report
from cnnjax.studies.reporting.rows import end_rows_of, rows_of
from cnnjax.studies.reproduction.ends import ends_of
from cnnjax.studies.reproduction.plan import plan


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
    assert "below 50 %: 1 of 3 seeds, seed 1." in report
    assert "n = 3) | 90.00 to 100.00 % | unexplained |" in report
    assert "Softmax, twice." in report


def test_who_is_tested_once_is_not_said_to_have_kept_its_accuracy(tmp_path):
    systems = [system(image("cnn", evaluate_every=0))]
    (job,) = plan(systems, scale="full", workdir=tmp_path)
    lines = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "test_accuracy": 0.1}]
    write_job(job, lines=lines, predictions=([0, 1], [0, 1]), test_accuracy=0.1)
    write_report(tmp_path, findings_of(systems, [job]), facts=[], others={})
    report = (tmp_path / "report.md").read_text()
    assert "\n\nClasses never predicted: in 0 of 1 seed.\n" in report
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
    told = "| 1 (0.5 to 1.5); not a number in 1 of 3 seeds | 1 | 50.00 % (20.00 to "
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
    assert counts_line(findings) == (
        "Of 5 published figures: 0 in band, 0 out of band, 5 without a "
        "band, 0 not trained yet. Of those without a band, 1 of 2 that could be "
        "compared are like ours."
    )
    write_report(tmp_path, findings, facts=[], others={})
    report = (tmp_path / "report.md").read_text()
    assert "| like ours | unlike ours |" in report
    assert "| 3 of 3 | 0 | 0 | 5 | 0 | 1 | 1 |" in report
    assert "| size | no band | 9 | 57 | - |" in report  # a size has no spread
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert rows == json.loads(json.dumps(rows_of(findings)))
    like, unlike, lost, size, some = rows
    assert (like["like_ours"], unlike["like_ours"], lost["like_ours"]) == (1, 0, None)
    assert lost["published"] == "nan"
    assert like["one_more_seed"] == pytest.approx([-2.968, 6.968], abs=1e-3)
    assert (like["n"], size["n"], some["n"]) == (3, 1, 2)
    assert some["seeds"] == [0, 1, 2]
