"""Train the published runs again, and report the results.

    python scripts/reproduce.py --data_dir=DIR --workdir=runs/reproduced

What is finished in --workdir is not trained again: the same command resumes. Writes
there report.md, report.html, pictures/ and results.json.

--scale and --systems choose what is trained. The report tells of all that is finished
in --workdir (of a run cut short only as long as none of all its epochs is).
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _progress
import _script
from absl import flags

from cnnjax.base import program
from cnnjax.base.errors import InputError, expect
from cnnjax.base.printable import printable
from cnnjax.results.folders import folder_named
from cnnjax.results.lock import alone_in
from cnnjax.studies import published
from cnnjax.studies.published.run import System
from cnnjax.studies.reporting.counts import counts_line
from cnnjax.studies.reproduction.plan import Job
from cnnjax.studies.runner import jobs, training
from cnnjax.studies.runner.campaign import Campaign
from cnnjax.studies.runner.outlook import duration
from cnnjax.telling.layout import wrap

STOPPED = "stopped; the same command goes on where it stopped"
QUICK = (
    "The quick scale cuts long runs short and leaves some out, so it never trains some "
    "of these figures; --scale=full does."
)
TRAIN = Path(__file__).with_name("train.py")
FLAGS = flags.FLAGS
MEANING = "One seed of each run, long ones cut short; or every seed and epoch."
flags.DEFINE_enum("scale", "quick", ["quick", "full"], MEANING)
flags.DEFINE_list("systems", None, "Systems to train, as A,C. Default: all.")
flags.DEFINE_string("data_dir", None, "Folder that holds your data files.")
flags.DEFINE_string("workdir", "runs/reproduced", "Folder for runs and report.")
MEANING = "Runs to train side by side, where one core is enough. Default: one per core."
flags.DEFINE_integer("jobs", None, MEANING, lower_bound=1)
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
    """Train what remains, with a bar over all epochs; return the jobs that failed."""
    total = sum(job.recipe.epochs for job in campaign.remaining())
    with _progress.Bar(total, bar_format=_progress.EPOCHS) as bar:
        return training.train(
            campaign,
            program=jobs.Program(TRAIN, FLAGS.data_dir),
            on_cores=cores,
            teller=training.Teller(bar.write, bar.poll),
        )


def main(args: list[str]) -> None:
    """Plan, train, report; say where the report is and what it counts."""
    _script.refuse_arguments(args)
    start = time.monotonic()
    if FLAGS.data_dir is None and not FLAGS.report_only:
        raise InputError(
            "--data_dir is required: the folder that holds your data files"
        )
    for name in ["workdir"] if FLAGS.report_only else ["workdir", "data_dir"]:
        expect(f"a folder for --{name}", FLAGS[name].value, bool(FLAGS[name].value))
    systems, cores = chosen_systems(), jobs.choose_cores(FLAGS.jobs)
    to = folder_named(FLAGS.workdir)
    with contextlib.nullcontext() if FLAGS.report_only else alone_in(to):
        campaign = Campaign(
            systems,
            scale=FLAGS.scale,
            data_dir=FLAGS.data_dir,
            to=to,
            command=program.shell(program.words()),
        )
        if FLAGS.report_only and not campaign.trained:
            raise InputError(f"nothing to report: no finished run in {to}")
        try:
            failed = [] if FLAGS.report_only else train(campaign, cores)
        except SystemExit:
            program.say(STOPPED, script="reproduce.py")
            raise
        campaign.report()
    print(f"report in {printable(str(to / 'report.md'))}")
    print(f"      and {printable(str(to / 'report.html'))}")
    print(wrap(counts_line(campaign.findings())))
    if FLAGS.scale == "quick" and not FLAGS.report_only:
        print(wrap(QUICK))
    print(f"{duration(time.monotonic() - start)} in all")
    for job in failed:
        print(f"FAILED {job.name}: {jobs.why_failed(job)}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    _script.run(main)
