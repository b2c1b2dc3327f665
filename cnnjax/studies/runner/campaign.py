"""The jobs of one reproduction, the state of each, and the report."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Sequence
from pathlib import Path

from cnnjax import data
from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.data.fingerprints import fingerprint
from cnnjax.studies import published
from cnnjax.studies.published.run import System
from cnnjax.studies.reporting.files import measured_on, write_report
from cnnjax.studies.reporting.pictures import Picture
from cnnjax.studies.reporting.words import code
from cnnjax.studies.reproduction import plan
from cnnjax.studies.reproduction.findings import (
    NOT_YET,
    RunFindings,
    Trained,
    find,
    read_trained,
)
from cnnjax.studies.reproduction.others import others_of
from cnnjax.studies.reproduction.plan import Job
from cnnjax.studies.runner.jobs import why_failed


class Campaign:
    """All jobs of some systems at a scale, done or not.

    The report also includes everything else that is finished in the workdir.
    """

    def __init__(
        self,
        systems: Sequence[System],
        *,
        scale: plan.Scale,
        data_dir: str | None,
        to: Path,
        command: Sequence[str],
    ) -> None:
        """Read what is done, and load every dataset once; `to` is the workdir.

        Without a `data_dir`, no dataset is loaded and nothing can be trained. The
        report quotes the `command`.

        Raises:
            InputError: a folder there holds a different run, a damaged one, or one on
                other data than is there now.
        """
        self.scale, self.to, self.command = scale, to, command
        self.jobs = plan.plan(systems, scale=scale, workdir=to)
        finished = plan.finished(published.SYSTEMS.values(), workdir=to)
        self.reported = list(
            {job.folder: job for job in [*self.jobs, *finished]}.values()
        )
        chosen = {system.letter for system in systems}
        letters = chosen | {job.system for job in finished}
        self.systems = [published.get_system(letter) for letter in sorted(letters)]
        self.trained: dict[Path, Trained] = {
            job.folder: read_trained(job) for job in finished
        }
        self.datasets: dict[str, Dataset] = {}
        self.missing: dict[str, str] = {}  # why, by dataset
        names = dict.fromkeys(job.recipe.dataset for job in self.reported)
        for name in names if data_dir is not None else ():
            try:
                self.datasets[name] = data.load_dataset(name, data_dir=data_dir)
            except InputError as error:
                self.missing[name] = f"{name} is missing: {error}"
        prints = {name: fingerprint(own) for name, own in self.datasets.items()}
        for job in self.reported:
            plan.check_data(job, prints.get(job.recipe.dataset))

    def undone(self) -> list[Job]:
        """Return the jobs that are not trained."""
        return [job for job in self.jobs if job.folder not in self.trained]

    @property
    def num_done(self) -> int:
        """Return how many jobs are trained."""
        return len(self.jobs) - len(self.undone())

    def left_out(self) -> list[str]:
        """Say why some of these cannot be trained: each missing dataset, once."""
        names = dict.fromkeys(job.recipe.dataset for job in self.undone())
        return [self.missing[name] for name in names if name in self.missing]

    def remaining(self) -> list[Job]:
        """Return the jobs to train, in the order to train them.

        Jobs that run in parallel come first, longest first, to finish together.
        """
        rest = [job for job in self.undone() if job.recipe.dataset in self.datasets]
        side_by_side = [job for job in rest if job.run.one_core]
        others = [job for job in rest if not job.run.one_core]
        return [*sorted(side_by_side, key=self.work, reverse=True), *others]

    def work(self, job: Job) -> float:
        """Estimate the cost of a job."""
        return plan.work(job, self.datasets[job.recipe.dataset])

    def reason(self, job: Job) -> str:
        """Say why a job is not trained."""
        if job.recipe.dataset in self.missing:
            return self.missing[job.recipe.dataset]
        said = why_failed(job)
        return f"failed: {said}" if said else NOT_YET

    def findings(self) -> list[RunFindings]:
        """Judge what is trained so far."""
        return find(self.systems, self.reported, self.trained, reason_fn=self.reason)

    def report(self, news: Job | None = None) -> None:
        """Write the report; after news of one job, redraw only the pictures with it.

        Raises:
            InputError: writing fails.
        """

        def redraw(picture: Picture) -> bool:
            shown = {job.name for one in picture.group for job in one.jobs}
            return news is None or news.name in shown

        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        done = f"{self.num_done} of {len(self.jobs)} jobs done"
        facts = [
            f"written {now}, scale {self.scale}, {done}",
            f"command: {code(shlex.join(self.command))}",
            *measured_on(self.trained.values()),
        ]
        findings = self.findings()
        others = others_of(findings, self.datasets)
        write_report(self.to, findings, facts=facts, others=others, redraw=redraw)
