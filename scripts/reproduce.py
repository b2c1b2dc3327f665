"""Train the published runs again, and write down what came of them.

    python scripts/reproduce.py --scale=quick --data_dir=DIR --workdir=runs/reproduced

What is finished in --workdir is not trained again: the same command goes on where it
was stopped. Writes there report.md, report.html, pictures/ and results.json.

--scale and --systems choose what is trained. The report tells of all that is finished
in --workdir, of every system and both scales (of a run cut short by the quick scale
only as long as none of all its epochs is), so that none replaces a fuller one.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _start  # noqa: F401  # before what imports JAX

# isort: split
import _jobs
import _lock
import _script
from _campaign import Campaign
from _outlook import Outlook, duration
from absl import flags

from cnnjax.base.errors import InputError, expect
from cnnjax.results.workdir import folder_named
from cnnjax.studies import published
from cnnjax.studies.published.run import System
from cnnjax.studies.reporting.tables import counts_line
from cnnjax.studies.reproduction.findings import read_trained
from cnnjax.studies.reproduction.plan import Job

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "scale",
    "quick",
    ["quick", "full"],
    "quick: one seed of each run, the long ones cut short. full: every seed and epoch.",
)
flags.DEFINE_list("systems", None, "Which to train, as A,C. Default: all of them.")
flags.DEFINE_string("data_dir", None, "Folder that holds the data sets' files.")
flags.DEFINE_string("workdir", "runs/reproduced", "Folder for runs and report.")
flags.DEFINE_integer(
    "jobs",
    None,
    "How many runs are trained side by side, of those that need one core only. "
    "Default: as many as there are cores.",
    lower_bound=1,
)
flags.DEFINE_bool("report_only", False, "Train nothing; report what is there.")


def chosen_systems() -> list[System]:
    """Return the systems that the flags choose, in the order of the table.

    Raises:
        InputError: there is no such system.
    """
    letters = list(published.SYSTEMS) if FLAGS.systems is None else FLAGS.systems
    expect("letters for --systems, as A,C", FLAGS.systems, bool(letters))
    return [published.get_system(letter) for letter in sorted(set(letters))]


def train(campaign: Campaign, cores: list[int]) -> list[Job]:
    """Train what remains, and report before it and after each job; say which failed.

    Raises:
        InputError: nothing is trained, and nothing can be: the data is missing.
    """
    jobs, failed = campaign.remaining(), []
    if not jobs and campaign.num_done == 0:
        raise InputError("; ".join(campaign.left_out()))
    print(f"{campaign.num_done} of {len(campaign.jobs)} jobs are done already")
    for reason in campaign.left_out():
        print(f"left out: {reason}")
    if jobs:
        campaign.report()
    work = {job.name: campaign.work(job) for job in jobs}
    with Outlook(work, jobs) as outlook:

        def on_end(job: Job, status: int) -> None:
            outlook.end(job)
            said = "done"
            if status == 0:
                campaign.trained[job.folder] = read_trained(job)
            else:
                failed.append(job)
                said = f"FAILED with status {status}: {_jobs.why_failed(job)}"
            outlook.write(f"{job.name}: {said}  ({outlook.line()})")
            try:
                campaign.report(news=job)
            except InputError as error:  # no reason to end what is being trained
                outlook.write(f"no report for now: {error}")

        watch = _jobs.Watch(on_end, outlook.poll, _jobs.Stop())
        _jobs.run_jobs(jobs, data_dir=FLAGS.data_dir, on_cores=cores, watch=watch)
    return failed


def main(args: list[str]) -> None:
    """Plan, train, report; say where the report is and what it counts."""
    _script.refuse_arguments(args)
    start = time.monotonic()
    needed = ["workdir"] if FLAGS.report_only else ["workdir", "data_dir"]
    for name in needed:
        expect(f"a folder for --{name}", FLAGS[name].value, bool(FLAGS[name].value))
    systems, cores = chosen_systems(), _jobs.choose_cores(FLAGS.jobs)
    to = folder_named(FLAGS.workdir)
    with contextlib.nullcontext() if FLAGS.report_only else _lock.alone_in(to):
        campaign = Campaign(systems, scale=FLAGS.scale, data_dir=FLAGS.data_dir, to=to)
        if FLAGS.report_only and not campaign.trained:
            raise InputError(f"nothing to report: no finished run in {to}")
        try:
            failed = [] if FLAGS.report_only else train(campaign, cores)
        except SystemExit:
            line = "stopped; the same command goes on where it stopped"
            print(f"reproduce.py: {line}", file=sys.stderr)
            raise
        campaign.report()
    print(f"report in {to / 'report.md'} and {to / 'report.html'}")
    print(f"{counts_line(campaign.findings())}; {duration(time.monotonic() - start)}")
    for job in failed:
        print(f"FAILED {job.name}: {_jobs.why_failed(job)}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    _script.run(main)
