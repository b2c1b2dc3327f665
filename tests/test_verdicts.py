"""A published figure beside ours: in band or out, how much faster, and why."""

from __future__ import annotations

import math

import pytest
from published_runs import findings_of, house, system, write_job

from cnnjax.studies import published
from cnnjax.studies.published.run import Figure
from cnnjax.studies.reproduction.plan import plan
from cnnjax.studies.reproduction.verdicts import judge


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
        ({}, [None], "no band", "not a number in 1 of 1 seed"),
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
