"""Train the remaining jobs of a campaign, with a report after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cnnjax.base.errors import InputError
from cnnjax.base.signals import Stop
from cnnjax.studies.reproduction.findings import read_trained
from cnnjax.studies.reproduction.plan import Job
from cnnjax.studies.runner.campaign import Campaign
from cnnjax.studies.runner.jobs import Program, Watch, run_jobs, why_failed
from cnnjax.studies.runner.outlook import Outlook
from cnnjax.telling.layout import wrap


class Teller(NamedTuple):
    """Callbacks that report the progress of a campaign."""

    say: Callable[[str], None]  # prints a line
    # poll(state) is called often; state() returns the number of epochs done, and a line
    # about jobs and time.
    poll: Callable[[Callable[[], tuple[int, str]]], None]


def train(
    campaign: Campaign, *, program: Program, on_cores: Sequence[int], teller: Teller
) -> list[Job]:
    """Train what remains, report before and after each job; return the failed jobs.

    Raises:
        InputError: nothing is trained, and nothing can be: the data is missing.
    """
    jobs: list[Job] = campaign.remaining()
    failed: list[Job] = []
    if not jobs and campaign.num_done == 0:
        raise InputError("; ".join(campaign.left_out()))
    teller.say(f"{campaign.num_done} of {len(campaign.jobs)} jobs are done already")
    for reason in campaign.left_out():
        teller.say(wrap(f"left out: {reason}"))
    if jobs:
        campaign.report()
    outlook = Outlook({job.name: campaign.work(job) for job in jobs}, jobs)

    def on_end(job: Job, status: int) -> None:
        outlook.end(job)
        said = "done"
        if status == 0:
            campaign.trained[job.folder] = read_trained(job)
        else:
            failed.append(job)
            said = f"FAILED with status {status}: {why_failed(job)}"
        teller.say(wrap(f"{job.name}: {said}  ({outlook.line()})"))
        try:
            campaign.report(news=job)
        except InputError as error:  # training goes on without it
            teller.say(wrap(f"no report for now: {error}"))

    def on_poll() -> None:
        teller.poll(lambda: (outlook.epochs_done(), outlook.line()))

    with Stop() as stop, stop.deferred():
        watch = Watch(on_end, on_poll, stop)
        run_jobs(jobs, program=program, on_cores=on_cores, watch=watch)
    return failed
