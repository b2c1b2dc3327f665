"""Findings as Markdown: one section per system, one table per run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cnnjax.studies.reporting.counts import counts, counts_line
from cnnjax.studies.reporting.ends_table import ends_table
from cnnjax.studies.reporting.figures import figures_text
from cnnjax.studies.reporting.pictures import Picture
from cnnjax.studies.reporting.terms import TERMS
from cnnjax.studies.reporting.words import counted, table, text, value_text
from cnnjax.studies.reproduction.ends import ends_of
from cnnjax.studies.reproduction.findings import RunFindings
from cnnjax.studies.reproduction.verdicts import VERDICTS


def report(
    findings: Sequence[RunFindings],
    *,
    title: str,
    facts: Iterable[str],
    pictures: Mapping[tuple[str, str], Picture],
) -> str:
    """Return the whole report: a summary, terms, what it is of, then every run."""
    where = "\n".join(f"- {fact}" for fact in facts)
    parts = [f"# {title}", counts_line(findings), _summary(findings)]
    parts += ["## Machines and versions", where] if where else []
    letters = dict.fromkeys(one.system.letter for one in findings)
    for letter in letters:
        own = [one for one in findings if one.system.letter == letter]
        system = own[0].system
        parts += [f"## {letter}. {text(system.title)}", text(system.question)]
        parts += [run_section(one, pictures.get((letter, one.run.name))) for one in own]
    return "\n\n".join(part for part in parts if part) + "\n"


def run_section(findings: RunFindings, picture: Picture | None) -> str:
    """Return the section of a run: settings, figures, end, explanation, picture."""
    run = findings.run
    parts = [f"### {findings.system.letter} `{run.name}`: {text(run.title)}"]
    parts.append(_settings(findings))
    parts.append(figures_text(findings.figures))
    parts += [ends_table(ends_of(findings)), _fate(findings), run.explanation]
    if picture is not None:
        parts.append(f"![{text(picture.title)}](pictures/{picture.name})")
    return "\n\n".join(part for part in parts if part)


def _summary(findings: Sequence[RunFindings]) -> str:
    letters = dict.fromkeys(one.system.letter for one in findings)
    whole, rows = counts(findings), []
    likened = ("like", "unlike") if whole["like"] or whole["unlike"] else ()
    for letter in letters:
        own = [one for one in findings if one.system.letter == letter]
        counted_here = counts(own)
        trained = sum(len(one.trained) for one in own)
        cells = [f"{letter}. {text(own[0].system.title)}"]
        cells.append(f"{trained} of {sum(one.num_seeds for one in own)}")
        columns = (*VERDICTS, *likened)
        rows.append([*cells, *(str(counted_here[name]) for name in columns)])
    runs: dict[str, list[str]] = {}  # that lack seeds, by the reason
    for one in findings:
        for reason in (r for r in one.open_reasons if ": " in r):  # it has details
            runs.setdefault(reason, []).append(f"{one.system.letter} `{one.run.name}`")
    lines = [f"- {', '.join(names)}: {text(reason)}" for reason, names in runs.items()]
    missing = "Not trained, and why:\n\n" + "\n".join(lines) if lines else ""
    head = ("system", "jobs trained", *VERDICTS, *(f"{name} ours" for name in likened))
    parts = (table(head, rows), missing, "## What the words mean", TERMS)
    return "\n\n".join(part for part in parts if part)


def _settings(findings: RunFindings) -> str:
    """Describe what is trained: recipe, faults, epochs, seeds, cores."""
    run = findings.run
    jobs = [one.job for one in findings.trained] or findings.jobs
    recipe = jobs[0].recipe if jobs else run.settled()
    batch = recipe.batch_size or "all examples"
    parts = [f"Recipe `{recipe.name}` on {recipe.dataset}, batch {batch}"]
    whole = run.settled().epochs
    of = f" (of {whole}: the quick scale)" if recipe.epochs < whole else ""
    parts.append(f"{counted(recipe.epochs, 'epoch')}{of}")
    seeds = f"{len(findings.trained)} of {counted(findings.num_seeds, 'seed')} trained"
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
            each = " each" * (len(known) > 1)
            words += f" in {mean}{each}, on {on or 'some'} core{'s'[: on != '1']}"
    if run.corrects is not None:
        words += f". It corrects `{run.corrects}`"
    faults = ", ".join(f"`{name}`" for name in run.faults)
    noun = "Fault" if len(run.faults) == 1 else "Faults"
    return f"{words}. " + (f"{noun}: {faults}." if faults else "No fault.")


def _fate(findings: RunFindings) -> str:
    """List the seeds that diverged, lost a class, or collapsed: a mean hides these."""
    lost = [str(one.job.seed) for one in findings.trained if one.diverged]
    n = len(findings.trained)
    told = f"Diverged: {len(lost)} of {counted(n, 'seed')}, {_numbers(lost)}. "
    words = told if lost else ""
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
    words = f"Classes never predicted: in {len(dead)} of {counted(n, 'seed')}"
    words += f" ({'; '.join(dead)})." if dead else "."
    if all(len(one.test_accuracies) < 2 for one in classified):
        return words  # who is tested once cannot be seen to fall
    words += " Collapsed, from above 90 % to below 50 %: "
    words += f"{len(fell)} of {counted(n, 'seed')}"
    return words + (f", {_numbers(fell)}." if fell else ".")


def _numbers(seeds: Sequence[str]) -> str:
    """Name seeds by their numbers."""
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(seeds)}"
