"""Write a report: Markdown, HTML, pictures, and every number as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cnnjax.base.errors import InputError
from cnnjax.results.environment import environment_line, machine_text
from cnnjax.results.workdir import Workdir
from cnnjax.studies.reporting.page import page_of
from cnnjax.studies.reporting.pictures import Picture, pictures_of
from cnnjax.studies.reporting.rows import end_rows_of, rows_of
from cnnjax.studies.reporting.tables import report
from cnnjax.studies.reporting.words import counted, text
from cnnjax.studies.reproduction.findings import RunFindings, Trained
from cnnjax.studies.reproduction.others import Others

TITLE = "Published runs, trained again"


def write_report(
    folder: Path,
    findings: Sequence[RunFindings],
    *,
    facts: Iterable[str],
    others: Others,
    redraw: Callable[[Picture], bool] = lambda _: True,
) -> None:
    """Write report.md, report.html, results.json and pictures/ into a folder.

    `facts` say, as Markdown, on what it was trained. A picture that is there and that
    `redraw` does not ask for is left as it is. Each file appears whole or not at all.

    Raises:
        InputError: writing fails.
    """
    pictures = pictures_of(findings)
    drawn = Workdir(folder / "pictures")
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create a folder in {folder}: {error}") from error
    for picture in pictures.values():
        if redraw(picture) or not (folder / "pictures" / picture.name).exists():
            drawn.write_bytes(picture.name, picture.draw(others))
    facts = list(facts)
    words = report(findings, title=TITLE, facts=facts, pictures=pictures)
    workdir = Workdir(folder)
    workdir.write_bytes("report.md", words.encode())
    page = page_of(words, folder=folder, title=TITLE)
    workdir.write_bytes("report.html", page.encode())
    numbers = {"rows": rows_of(findings), "ends": end_rows_of(findings)}
    workdir.write_json("results.json", {"facts": facts, **numbers})


def measured_on(trained: Iterable[Trained]) -> list[str]:
    """Describe where and when the runs were trained: one line per environment."""
    environments = [one.result["environment"] for one in trained]
    alike = Counter(
        f"{environment_line(one)}; {machine_text(one)}" for one in environments
    )
    dates = sorted(one["date"] for one in environments)
    lines = [
        f"{counted(count, 'job')} trained on: {text(line)}"
        for line, count in alike.most_common()
    ]
    span = text(f"trained from {dates[0]} to {dates[-1]}") if dates else ""
    return [*lines, span] if dates else lines
