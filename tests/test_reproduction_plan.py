"""Which jobs a scale plans, and what a run cut short may stand for."""

from __future__ import annotations

import re

import pytest
from published_runs import findings_of, house, system, write_job

from cnnjax.studies.reporting.files import write_report
from cnnjax.studies.reproduction.plan import plan


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
    assert loss.note == "after all 3 epochs; only 2 trained here"
    assert later.note == "after epoch 3; only 2 trained here"
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
    told = re.findall(r"open: trained at full|\| open \|.*trained at full", report)
    assert len(told) == len(findings[0].figures)
