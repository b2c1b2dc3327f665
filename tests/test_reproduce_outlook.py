"""How much of a reproduction is done, and the time that is left."""

from __future__ import annotations

from published_runs import house, system

from cnnjax.studies.reproduction.plan import plan
from cnnjax.studies.runner import outlook
from cnnjax.studies.runner.outlook import Outlook


def test_the_time_left_is_shared_out_by_work(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(outlook.time, "monotonic", lambda: now[0])
    jobs = plan([system(house("a"), house("b"))], scale="quick", workdir=tmp_path)
    ahead = Outlook({jobs[0].name: 3e12, jobs[1].name: 1e12}, jobs)
    assert (ahead.line(), ahead.epochs_done()) == ("0/2 jobs, 0 s", 0)
    now[0] = 90.0
    ahead.end(jobs[0])
    assert ahead.line() == "1/2 jobs, 1 min 30 s, 30 s left"
    assert ahead.epochs_done() == jobs[0].recipe.epochs
    ahead.end(jobs[1])
    assert ahead.line() == "2/2 jobs, 1 min 30 s"
