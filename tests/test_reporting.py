"""The report: a row for every figure, pictures, words; as Markdown and as a page."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from published_runs import findings_of, house, image, system, write_job

from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.studies import published
from cnnjax.studies.published.run import PublishedRun
from cnnjax.studies.reporting.files import write_report
from cnnjax.studies.reporting.page import page_of
from cnnjax.studies.reporting.pictures import pictures_of
from cnnjax.studies.reporting.words import code, fold, table, text, value_text
from cnnjax.studies.reproduction.others import others_of
from cnnjax.studies.reproduction.plan import plan
from cnnjax.types import Examples


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
    heads = [line for line in rows if line.startswith("| time | times as fast")]
    assert len(rows) - len(heads) == sum(len(run.figures) for run in runs) + 2
    assert {line.count("|") for line in rows} == {6, 7}  # times have no band
    assert "| training | 2 | 0.166 s | 0.083 s |  |" in rows
    told = "| loss, epoch 3 | no band | 0.02 | 0.033333 | - |"
    assert any(row.startswith(told) for row in rows)
    page = (tmp_path / "report.html").read_text()
    body = re.findall(r"<tr>\s*<td[^>]*>(?:loss|training|accuracy)", page)
    assert len(body) == len(rows) - len(heads)
    assert "x &#124; y &lt;z&gt; &#42;w&#42; is missing" in page or (
        "x | y &lt;z&gt; *w* is missing" in page
    )
    # Complete in itself: the picture is inside, and nothing is fetched.
    assert page.count('src="data:image/png;base64,') == 1
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
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
    told = "| loss | **out of band** | 0.02 | not a number | 0 to 9 | not a number in"
    assert told in report
    assert "nan" not in report


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
    rows = sum(
        len(
            re.findall(
                rf"(?m)^\| .*\|.* open .*\| {reason} \|$|open: {reason} \|$", tables
            )
        )
        for reason in reasons
    )
    sizes = [f for f in figures if f.metric in ("parameters", "macs_per_example")]
    assert rows == len(figures) - len(sizes)
    judged = [row for one in findings for row in one.figures if row.figure in sizes]
    assert {row.verdict for row in judged} <= {"in band", "no band"}
    page = (tmp_path / "report.html").read_text().partition('<h2 id="a-')[2]
    assert len(re.findall('<td data-head="(?:figure|time)"', page)) == len(figures)


def test_a_picture_that_is_missing_is_told(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*pictures/x\.png"):
        page_of("![x](pictures/x.png)", folder=tmp_path, title="t")


def test_a_page_defines_its_words_and_shows_verdicts_first(tmp_path):
    systems = [system(house("one"))]
    (job,) = plan(systems, scale="full", workdir=tmp_path)
    write_job(job, lines=[{"epoch": 1, "train_loss": 0.5}], test_loss=99.0)
    write_report(tmp_path, findings_of(systems, [job]), facts=["x"], others={})
    page = (tmp_path / "report.html").read_text()
    for word in ("band", "verdict", "published", "times as fast", "fault"):
        assert f"<strong>{word}</strong>:" in page
    assert (
        '<td class="bad" data-head="verdict"><strong>out of band</strong></td>' in page
    )
    assert "1 of 1 seed trained" in page
    assert "<summary>1 open figure</summary>" in page


def test_markdown_of_others_is_text(tmp_path):
    evil = "<script>x</script> [a](javascript:x) <javascript:x> ![b](javascript:x)\n\n"
    evil += "[c](java&#115;cript:x) [d][e]\n\n[e]: javascript:x\n\n<details>\n\n<b>"
    page = page_of(evil, folder=tmp_path, title=evil)
    body = page[page.index("<main>") : page.index("</main>")]
    assert not re.findall("<script|<b>|<details|href|src", body)
    good = (
        fold("a <b>", fold("in", "[x](https://a.b/c?d=1)")) + "\n\n" + code("`a` <b>")
    )
    page = page_of(good, folder=tmp_path, title="t")
    assert "<summary>a &lt;b&gt;</summary>\n<details>\n<summary>in</summary>" in page
    assert '<a href="https://a.b/c?d=1">x</a>' in page
    assert "<code>`a` &lt;b&gt;</code>" in page


def test_numbers_stand_on_the_right():
    rows = [("a", "1.5 %", "x 1", "-"), ("b", "not a number", "2", "0.1 to 0.2")]
    assert table("wxyz", rows).splitlines()[1] == "| --- | ---: | --- | ---: |"


def test_words_stay_as_they_are():
    assert text("a|b\n<c> `d`") == "a&#124;b &lt;c&gt; &#96;d&#96;"
    assert value_text("test_accuracy", None) == "-"
    assert value_text("train_loss", math.nan) == "not a number"
    assert value_text("step", 240_000) == "240,000"  # counted, not measured
