"""Findings as Markdown: one section per system, one table per run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cnnjax.studies.published.run import Figure
from cnnjax.studies.reporting.counts import counts
from cnnjax.studies.reporting.ends_table import ends_table
from cnnjax.studies.reporting.pictures import Picture
from cnnjax.studies.reporting.words import (
    NOTHING,
    ours_text,
    range_text,
    table,
    text,
    value_text,
)
from cnnjax.studies.reproduction.ends import ends_of
from cnnjax.studies.reproduction.findings import RunFindings
from cnnjax.studies.reproduction.verdicts import Judged, is_time

SHORT = {  # the verdicts, in the tables
    "in band": "in range",
    "out of band": "out of range",
    "no band": "no range",
    "open": "open",
}
LIKENESS = (
    "Like ours: published values without an expected range that lie in the 95 % "
    "interval for one more seed of ours. Sizes and counts are in range by arithmetic "
    "alone."
)


def report(
    findings: Sequence[RunFindings],
    *,
    title: str,
    facts: Iterable[str],
    pictures: Mapping[tuple[str, str], Picture],
) -> str:
    """Return the complete report: facts of the measurement, a summary, every run."""
    parts = [f"# {title}", "\n".join(f"- {fact}" for fact in facts), _summary(findings)]
    letters = dict.fromkeys(one.system.letter for one in findings)
    for letter in letters:
        own = [one for one in findings if one.system.letter == letter]
        system = own[0].system
        parts += [f"## {letter}. {text(system.title)}", text(system.question)]
        parts += [run_section(one, pictures.get((letter, one.run.name))) for one in own]
    return "\n\n".join(part for part in parts if part) + "\n"


def run_section(findings: RunFindings, picture: Picture | None) -> str:
    """Return the section of a run: settings, figures, times, ends, explanation."""
    run = findings.run
    parts = [f"### {findings.system.letter} `{run.name}`: {text(run.title)}"]
    parts.append(_settings(findings))
    measures = [one for one in findings.figures if not is_time(one.figure)]
    if measures:
        head = ("figure", "epoch", "published", "ours", "expected", "verdict")
        parts.append(table(head, map(_measure_cells, measures)))
    times = [one for one in findings.figures if is_time(one.figure)]
    if times:
        head = ("time", "epoch", "published", "ours", "speedup", "note")
        parts.append(table(head, map(_time_cells, times)))
    parts += [ends_table(ends_of(findings)), _fate(findings), run.explanation]
    if picture is not None:
        parts.append(f"![{text(picture.title)}](pictures/{picture.name})")
    return "\n\n".join(part for part in parts if part)


def _summary(findings: Sequence[RunFindings]) -> str:
    letters = dict.fromkeys(one.system.letter for one in findings)
    rows = []
    for letter in letters:
        own = [one for one in findings if one.system.letter == letter]
        counted = counts(own)
        trained = sum(len(one.trained) for one in own)
        cells = [f"{letter}. {text(own[0].system.title)}"]
        cells.append(f"{trained} of {sum(one.num_seeds for one in own)}")
        columns = (*SHORT, "like", "unlike")
        rows.append([*cells, *(str(counted[name]) for name in columns)])
    runs: dict[str, list[str]] = {}  # those that lack seeds, by reason
    for one in findings:
        for reason in (r for r in one.open_reasons if ": " in r):  # it has details
            runs.setdefault(reason, []).append(f"{one.system.letter} `{one.run.name}`")
    lines = [f"- {', '.join(names)}: {text(reason)}" for reason, names in runs.items()]
    missing = "Not trained, and why:\n\n" + "\n".join(lines) if lines else ""
    head = ("system", "jobs trained", *SHORT.values(), "like ours", "unlike ours")
    parts = (table(head, rows), LIKENESS, missing)
    return "\n\n".join(part for part in parts if part)


def _settings(findings: RunFindings) -> str:
    """Describe what is trained: recipe, faults, epochs, seeds, cores."""
    run = findings.run
    jobs = [one.job for one in findings.trained] or findings.jobs
    recipe = jobs[0].recipe if jobs else run.settled()
    batch = recipe.batch_size or "all examples"
    parts = [f"Recipe `{recipe.name}` on {recipe.dataset}, batch {batch}"]
    whole = run.settled().epochs
    of = f" (of {whole}; quick scale)" if recipe.epochs < whole else ""
    parts.append(f"{recipe.epochs} epochs{of}")
    seeds = f"{len(findings.trained)} of {findings.num_seeds} seeds trained"
    parts.append(seeds if jobs else "; ".join(findings.open_reasons))
    words = ", ".join(parts)
    if findings.trained:
        seconds = [one.result.get("train_seconds") for one in findings.trained]
        known = [value for value in seconds if value is not None]
        cores = {
            one.result.get("environment", {}).get("num_cores")
            for one in findings.trained
        }
        on = " or ".join(map(str, sorted(cores - {None})))
        if known:
            mean = value_text("seconds", float(np.mean(known)))
            words += f" in {mean} each, on {on or 'some'} core{'s'[: on != '1']}"
    if run.corrects is not None:
        words += f". It corrects `{run.corrects}`"
    faults = ", ".join(f"`{name}`" for name in run.faults)
    return f"{words}. " + (f"Faults: {faults}." if faults else "No fault.")


def _measure_cells(judged: Judged) -> list[str]:
    figure = judged.figure
    band = NOTHING
    if figure.band is not None:
        band = range_text(figure.metric, figure.band)
    return [*_first_cells(judged), band, _verdict_text(judged)]


def _time_cells(judged: Judged) -> list[str]:
    fast = judged.times_as_fast
    ratio = NOTHING if fast is None else f"{fast:.3g}"
    verdict = text(judged.note)
    if judged.verdict != "no band":
        verdict = _verdict_text(judged)
    return [*_first_cells(judged), ratio, verdict]


def _first_cells(judged: Judged) -> list[str]:
    figure = judged.figure
    return [
        text(figure.what),
        "" if figure.epoch is None else str(figure.epoch),
        _published_text(figure),
        ours_text(figure.metric, judged.ours, num_seeds=judged.num_seeds),
    ]


def _published_text(figure: Figure) -> str:
    words = value_text(figure.metric, figure.value, digits=8)
    known = figure.source != "reported" and figure.value is not None
    return f"{words} ({figure.source})" if known else words


def _verdict_text(judged: Judged) -> str:
    verdict = SHORT[judged.verdict]
    if judged.verdict == "out of band":
        verdict = f"**{verdict}**"
    notes = [note for note in (_likeness(judged), text(judged.note)) if note]
    return f"{verdict}: {'; '.join(notes)}" if notes else verdict


def _likeness(judged: Judged) -> str:
    """Say whether a published value without a band is like those of our seeds."""
    if judged.like_ours is None or judged.one_more is None:
        return ""  # too few seeds to estimate the spread
    place = "inside" if judged.like_ours else "outside"
    bounds = range_text(judged.figure.metric, judged.one_more)
    return f"{place} the 95 % interval for one more seed of ours, {bounds}"


def _fate(findings: RunFindings) -> str:
    """List the seeds that diverged, lost a class, or collapsed: a mean hides these."""
    lost = [str(one.job.seed) for one in findings.trained if one.diverged]
    n = len(findings.trained)
    words = f"Diverged: {len(lost)} of {n} seeds ({', '.join(lost)}). " if lost else ""
    return (words + _fate_of_classes(findings)).rstrip()


def _fate_of_classes(findings: RunFindings) -> str:
    classified = [one for one in findings.trained if one.dead_classes is not None]
    if not classified:
        return ""
    dead = [
        f"seed {one.job.seed} never predicts {', '.join(map(str, one.dead_classes))}"
        for one in classified
        if one.dead_classes
    ]
    fell = [str(one.job.seed) for one in classified if one.collapsed]
    n = len(classified)
    words = f"Classes never predicted: in {len(dead)} of {n} seeds"
    words += f" ({'; '.join(dead)})." if dead else "."
    if all(len(one.test_accuracies) < 2 for one in classified):
        return words  # a fall takes two tests to see
    words += f" Collapsed from above 90 % to below 50 %: {len(fell)} of {n} seeds"
    return words + (f" ({', '.join(fell)})." if fell else ".")
