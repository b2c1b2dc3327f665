"""Make one report from the results of one or more machines.

    python benchmarks/report.py --out=runs/benchmarks benchmarks/results/*.jsonl

Writes report.md, report.html (self-contained) and pictures/ into --out. With
--readme=README.md, the table between the two marks in that file is replaced as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _paths  # noqa: F401
import _script
import facts
import results
import setups
import speeds
import tables
import words
from absl import flags
from blocks import Card, cards_html, cards_markdown, key_html
from contenders import OF_A_BATCH
from setups import Chosen, Group

from cnnjax.base import durable
from cnnjax.base.errors import InputError, expect
from cnnjax.base.intake import read_text
from cnnjax.results.workdir import Workdir
from cnnjax.studies.reporting.page import page_of
from cnnjax.studies.reporting.words import counted, fold, text

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "runs/benchmarks", "Folder for the report.")
flags.DEFINE_string("readme", None, "File whose table between the marks is replaced.")

TITLE = "cnnjax, measured"
MARKS = ("<!-- throughput: begin -->", "<!-- throughput: end -->")
BENCHMARKS = ("throughput", "accuracy", "scaling")
KEY = "key-of-colours"  # what stands for the legend in the page's text
KEY_OF_FORMS = "key-of-forms"
INSIDE = "inside-of-a-fold"
Row = dict[str, Any]
Cards = list[Card]


def main(args: list[str]) -> None:
    """Read the results, write the report, and print where it is."""
    expect("result files, such as benchmarks/results/*.jsonl", args, bool(args))
    rows = [
        row for path in args for row in results.read(Path(path), benchmarks=BENCHMARKS)
    ]
    readme = Path(FLAGS.readme) if FLAGS.readme is not None else None
    words_around = _parts_of(readme) if readme else None
    folder = Path(FLAGS.out).expanduser()
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror}; choose another --out"
        ) from error
    groups = setups.grouped(
        [row for row in rows if row["benchmark"] == "throughput"], setups.names_of(rows)
    )
    parts = _parts(rows, groups, Workdir(folder / "pictures"))
    workdir = Workdir(folder)
    told = [part if isinstance(part, str) else cards_markdown(part) for part in parts]
    told = [part for part in told if part not in (KEY, KEY_OF_FORMS)]
    workdir.write_bytes("report.md", _joined(told).encode())
    inserts = {
        f"cards-{at}": cards_html(part)
        for at, part in enumerate(parts)
        if not isinstance(part, str)
    }
    told = [p if isinstance(p, str) else f"cards-{at}" for at, p in enumerate(parts)]
    inserts[KEY] = key_html(("ours", "peer", "tuned"))
    inserts[KEY_OF_FORMS] = key_html(("form", "form_tuned"))
    page = page_of(_joined(told), folder=folder, title=TITLE, inserts=inserts)
    workdir.write_bytes("report.html", page.encode())
    if readme and words_around:
        mean = [group.rows for group in groups if group.task == "mean"]
        own = f"{MARKS[0]}\n{tables.peers_table(mean)}\n{MARKS[1]}"
        durable.write_bytes(readme, own.join(words_around).encode())
    print(f"{len(rows)} rows; report in {folder / 'report.md'} and report.html")


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _parts(rows: list[Row], groups: list[Group], drawn: Workdir) -> list[str | Cards]:
    """Return the report: a summary, then a section for each question, then all rows."""
    name = setups.names_of(rows)
    chosen = setups.chosen(groups)
    mean = [(g, others) for g, others in chosen if g.task == "mean"]
    half = [(g, others) for g, others in chosen if g.task == "bfloat16"]
    single = [(g, others) for g, others in chosen if g.task not in OF_A_BATCH]
    growth = list(setups.runs(rows, "scaling"))
    training = list(setups.runs(rows, "accuracy"))
    sections: list[tuple[str, list[str | Cards]]] = [
        ("In short", [words.SUMMARY, KEY, speeds.summary(mean)]),
        (
            "Which form is fastest?",
            [words.FORMS, KEY_OF_FORMS, *_by_machine(mean, speeds.forms)],
        ),
        (
            "Against the peers",
            [words.PEERS, KEY, *_by_machine(mean, speeds.against_peers)],
        ),
        (
            "In bfloat16",
            [words.BFLOAT16, KEY, *_by_machine(half, speeds.per_example)],
        ),
        (
            "Gradients of single examples",
            [words.PER_EXAMPLE, KEY, *_by_machine(single, speeds.per_example)],
        ),
        ("Memory", ["", *_by_machine(chosen, _of_groups(facts.memory))]),
        (
            "Devices and sizes: how does time grow?",
            [
                words.GROWTH,
                facts.growth(growth, drawn, name),
                _folded("Every point", facts.growth_tables(growth, name)),
            ],
        ),
        (
            "Compile time",
            [words.COMPILE, *_by_machine(chosen, _of_groups(facts.compile_time))],
        ),
        (
            "Time to accuracy",
            [
                words.ACCURACY,
                facts.accuracy(training, drawn, name),
                facts.accuracy_tables(training, name),
            ],
        ),
        ("All rows", [words.ALL, *_all_rows(groups)]),
    ]
    parts: list[str | Cards] = [f"# {TITLE}", words.PREFACE]
    for title, content in sections:
        if any(part and part not in (KEY, KEY_OF_FORMS) for part in content[1:]):
            parts += [f"## {title}", *(part for part in content if part)]
    return parts


def _by_machine(
    chosen: Sequence[Chosen], shown: Callable[[Sequence[Chosen]], str | Cards]
) -> list[str | Cards]:
    """Return what is shown of each machine; that of the first is not folded."""
    parts: list[str | Cards] = []
    for machine, own in setups.by_machine(chosen):
        if content := shown(own):
            if parts:
                parts += [*fold(machine, INSIDE).split(INSIDE)]
                parts.insert(-1, content)
            elif isinstance(content, str):
                parts += [f"**{text(machine)}**", content]
            else:
                parts.append(content)  # each card has its machine's name
    return [part.strip() if isinstance(part, str) else part for part in parts]


def _of_groups(
    shown: Callable[[Sequence[Group]], str],
) -> Callable[[Sequence[Chosen]], str]:
    return lambda chosen: shown([group for group, _ in chosen])


def _folded(summary: str, content: str) -> str:
    return fold(summary, content) if content else ""


def _all_rows(groups: Sequence[Group]) -> list[str]:
    """Return every row of each machine, folded, with what it was measured on."""
    machines: dict[str, list[str]] = {}
    for group in groups:
        title = f"{group.recipe}, batch {group.batch_size:,}, {group.when} UTC: "
        title += f"{tables.TASKS[group.task]} ({counted(len(group.rows), 'row')})"
        content = (tables.provenance(group.rows), tables.rates_table(group.rows))
        own = machines.setdefault(group.machine, [])
        own.append(fold(title, "\n\n".join(content)))
    return [fold(machine, "\n\n".join(own)) for machine, own in machines.items()]


def _parts_of(path: Path) -> tuple[str, str]:
    """Return the text before and after the marks of a file."""
    words = read_text(path)
    begin, end = MARKS
    if words.count(begin) != 1 or words.count(end) != 1:
        raise InputError(f"expected {begin} and {end} once in {path}; add them")
    before, rest = words.split(begin)
    return before, rest.split(end)[1]


if __name__ == "__main__":
    _script.run(main)
