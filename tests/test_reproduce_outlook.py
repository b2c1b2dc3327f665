"""How much of a reproduction is done, and the time that is left."""

from __future__ import annotations

import _outlook
from published_runs import house, system

from cnnjax.studies.reproduction.plan import plan


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
