"""`scripts/reproduce.py`: trains, resumes, refuses, and reports what it has."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import reproduce
from absl import flags
from published_runs import house, image, system, write_houses, write_job

from cnnjax.base.errors import InputError
from cnnjax.studies import published
from cnnjax.studies.published.run import System
from cnnjax.studies.reporting.files import write_report
from cnnjax.studies.reproduction.plan import finished, plan
from cnnjax.studies.runner import campaign, jobs

ROOT = Path(__file__).parent.parent


def unfolded(text: str) -> str:
    """Return lines as they were before they were broken to fit a terminal."""
    return text.replace("\n  ", " ")


@pytest.fixture(scope="module")
def houses(tmp_path_factory) -> str:
    """A folder with a table of houses."""
    folder = tmp_path_factory.mktemp("houses")
    write_houses(folder)
    return str(folder)


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, houses):
    """Call the script's main with systems; return (status, its lines, its errors)."""
    monkeypatch.setattr(jobs.signal, "signal", lambda *_: None)  # pytest's stay
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
        r"Of 8 published figures: 2 in band, 0 out of band, 6 without a "
        r"band, 0 not trained yet\.\n\d+ s in all$",
        unfolded(out.strip()),
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


@pytest.mark.slow
def test_a_failed_job_is_told_and_the_others_go_on(call, tmp_path):
    run = house("broken", faults=("one_dropout_mask_for_all",))  # there is no dropout
    status, out, err = call(system(run, house("sound")))
    assert status == 1
    assert "B broken seed 0: FAILED with status 2: train.py: error: " in unfolded(out)
    assert err.startswith("FAILED B broken seed 0: train.py: error: ")
    assert "B sound seed 0: done" in out
    report = (tmp_path / "w" / "report.md").read_text()
    assert "- B `broken`: failed: train.py: error: " in report
    assert "open: failed, see above" in report
    status, out, err = call(system(run, house("sound")), args=("--report_only",))
    assert (status, err) == (0, "")
    assert "open: failed, see above" in (tmp_path / "w" / "report.md").read_text()


def test_runs_on_other_data_are_not_mixed(call, tmp_path, houses):
    """A table that was cut between two calls is named, and nothing is trained."""
    table = Path(houses) / "Housing.csv"
    whole = table.read_text()
    assert call(system(house("one")))[0] == 0
    result = tmp_path / "w/B/one/seed_0/result.json"
    before = result.read_bytes()
    table.write_text(whole[: whole.rindex("\n", 0, -1) + 1])
    try:
        with pytest.raises(
            InputError, match=r"on other data: Housing\.csv has changed"
        ):
            call(system(house("one"), house("two")))
    finally:
        table.write_text(whole)
    assert result.read_bytes() == before
    assert not (tmp_path / "w/B/two").exists()


def test_missing_data_is_explained_and_the_rest_reported(call, tmp_path):
    systems = system(image("pictures"), house("houses"))
    for job in plan([systems], scale="quick", workdir=tmp_path / "w"):
        if job.run.name == "houses":
            write_job(job, test_loss=0.01, train_seconds=0.083)
    status, out, err = call(systems)
    assert (status, err) == (0, "")
    assert "left out: mnist is missing: " in unfolded(out)
    report = (tmp_path / "w" / "report.md").read_text()
    assert report.count("mnist is missing, see above") == 2
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
    complaint = "B one seed 0: recipe.optimizer.learning_rate was 0.01, expected 0.02"
    with pytest.raises(InputError, match=complaint):
        call(changed, args=("--report_only",))
    faulty = system(house("one", faults=("optimizer_of_other_parameters",)))
    with pytest.raises(InputError, match="seed_0 holds a different run.*: faults was"):
        plan([faulty], scale="full", workdir=tmp_path / "w")
    # An unfinished one is another's, too.
    (job.folder / "result.json").unlink()
    with pytest.raises(InputError, match="holds a different run"):
        plan([changed], scale="full", workdir=tmp_path / "w")
    (job.folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is damaged"):
        plan([systems], scale="full", workdir=tmp_path / "w")


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


def test_a_folder_of_data_is_asked_for(call):
    complaint = "^--data_dir is required: the folder that holds your data files$"
    with pytest.raises(InputError, match=complaint):
        call(system(house("one")), data=False)


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        (
            "os.kill(os.getpid(), 9)",
            -9,
            "ended by signal 9 (SIGKILL), perhaps out of memory: try fewer --jobs",
        ),
        (
            "os.write(2, b'Check failed'); os.kill(os.getpid(), 6)",
            -6,
            "ended by signal 6 (SIGABRT); last line: Check failed",
        ),
        ("os._exit(3)", 3, "ended with status 3"),
    ],
)
def test_a_job_that_cannot_say_why_it_ended(
    program, status, said, call, monkeypatch, tmp_path
):
    script = tmp_path / "train.py"
    script.write_text(f"import os\n{program}\n")
    monkeypatch.setattr(reproduce, "TRAIN", script)
    ended, out, err = call(system(house("one")))
    assert ended == 1
    assert f"B one seed 0: FAILED with status {status}: {said}" in unfolded(out)
    assert err == f"FAILED B one seed 0: {said}\n"
    complaint = tmp_path / "w/B/one/seed_0.stderr"
    assert complaint.read_text().endswith(f"{said}\n")
    assert f"- B `one`: failed: {said}\n" in (tmp_path / "w/report.md").read_text()


@pytest.mark.slow
def test_a_report_that_fails_ends_no_training(call, monkeypatch, tmp_path):
    written = []

    def write(*args, **kwargs):
        written.append(1)
        if len(written) == 2:  # after the first job
            raise InputError("no room")
        write_report(*args, **kwargs)

    monkeypatch.setattr(campaign, "write_report", write)
    status, out, err = call(system(house("one"), house("two")), args=("--jobs=1",))
    assert (status, err) == (0, "")
    assert unfolded(out).count("no report for now: no room") == 1
    assert "2 of 2 jobs done" in (tmp_path / "w" / "report.md").read_text()


def test_a_report_is_of_all_that_is_finished(call, monkeypatch, tmp_path):
    """Other systems stay in it, and a fuller scale is not replaced by the quick one."""
    written = []

    def write(folder, findings, **kwargs):
        written.append(findings)
        write_report(folder, findings, **kwargs)

    monkeypatch.setattr(campaign, "write_report", write)
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


DRIVER = """
import sys
import _script, published_runs, reproduce
from cnnjax.studies import published
from cnnjax.data.dataset import Dataset
run = published_runs.house("long", changes={"epochs": 10_000_000}, figures=())
published.SYSTEMS = {"B": published_runs.system(run)}
_script.run(reproduce.main)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
def test_sigterm_ends_the_children_and_says_how_to_go_on(tmp_path, houses):
    paths = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")]
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
