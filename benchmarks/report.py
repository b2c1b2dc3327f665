"""Make one report from the results of one or more machines.

    python benchmarks/report.py --out=runs/benchmarks benchmarks/results/*.jsonl

Writes report.md, report.html (self-contained) and pictures/ into --out. With
--readme=README.md, the table between the two marks in that file is replaced as well.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _paths  # noqa: F401
import _script
import pictures
import results
import tables
from absl import flags

from cnnjax.base.errors import InputError, expect
from cnnjax.results.workdir import Workdir
from cnnjax.studies.reporting.page import page_of

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "runs/benchmarks", "Folder for the report.")
flags.DEFINE_string("readme", None, "File whose table between the marks is replaced.")

TITLE = "cnnjax, measured"
MARKS = ("<!-- throughput: begin -->", "<!-- throughput: end -->")
BENCHMARKS = ("throughput", "accuracy", "scaling")
Row = dict[str, Any]


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
    drawn = Workdir(folder / "pictures")
    parts = [f"# {TITLE}", _preface()]
    throughput = [row for row in rows if row["benchmark"] == "throughput"]
    for number, (key, group) in enumerate(_groups(throughput)):
        parts += _throughput(key, group, drawn, number)
    for number, row_group in enumerate(_runs(rows, "accuracy")):
        parts += _accuracy(row_group, drawn, number)
    for number, row_group in enumerate(_runs(rows, "scaling")):
        parts += _scaling(row_group, drawn, number)
    words = "\n\n".join(part for part in parts if part) + "\n"
    workdir = Workdir(folder)
    workdir.write_bytes("report.md", words.encode())
    page = page_of(words, folder=folder, title=TITLE)
    workdir.write_bytes("report.html", page.encode())
    if readme and words_around:
        mean = [g for _, g in _groups(throughput) if g[0]["task"] == "mean"]
        own = f"{MARKS[0]}\n{tables.peers_table(mean)}\n{MARKS[1]}"
        readme.write_text(own.join(words_around))
    print(f"{len(rows)} rows; report in {folder / 'report.md'} and report.html")


def _preface() -> str:
    return (
        "A speed is given only for contenders whose gradients of the first batch "
        "equalled those of the serial reference in the same run. *Tuned* rows use an "
        "allocator that keeps freed memory (glibc's thresholds set large), *fused* "
        "rows an optimizer that passes over memory once. Values are medians over "
        "interleaved rounds; only compare figures within one table. "
        "Click a column's name to sort by it."
    )


def _throughput(key: tuple, rows: list[Row], drawn: Workdir, number: int) -> list[str]:
    recipe, batch_size, task, *_ = key
    timed = [row for row in rows if "examples_per_second" in row]
    title = f"{recipe}, batch {batch_size}: {tables.TASKS[task]}"
    parts = [f"## {tables.text(title)}", tables.provenance(rows)]
    if timed:
        name = f"throughput_{number}.svg"
        drawn.write_bytes(name, pictures.draw_rates(timed))
        parts.append(f"![{tables.text(title)}](pictures/{name})")
    return [*parts, tables.rates_table(rows)]


def _accuracy(rows: list[Row], drawn: Workdir, number: int) -> list[str]:
    row = rows[0]
    title = f"Time to accuracy: {row['recipe']} on {row['dataset']}, "
    title += f"batch {row['batch_size']}, {row['epochs']} epochs"
    name = f"accuracy_{number}.svg"
    drawn.write_bytes(name, pictures.draw_accuracy(rows))
    words = "Seconds of training (and of everything except the start of the process)."
    head = [f"## {tables.text(title)}", tables.provenance(rows), words]
    return [*head, f"![{title}](pictures/{name})", tables.accuracy_table(rows)]


def _scaling(rows: list[Row], drawn: Workdir, number: int) -> list[str]:
    row = rows[0]
    title = f"{row['recipe']}: {row['title']}"
    parts = [f"## {tables.text(title)}", tables.provenance(rows)]
    timed = [row for row in rows if "step_seconds" in row]
    if row["question"] in pictures.AXES and timed:
        name = f"scaling_{number}.svg"
        picture = pictures.draw_scaling(timed, question=row["question"])
        drawn.write_bytes(name, picture)
        parts.append(f"![{tables.text(title)}](pictures/{name})")
    return [*parts, tables.scaling_table(rows)]


def _groups(rows: list[Row]) -> list[tuple[tuple, list[Row]]]:
    """Group throughput rows by run, recipe, batch size and task, in order."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        names = ("recipe", "batch_size", "task")
        key = (*(row[name] for name in names), _run_of(row))
        groups.setdefault(key, []).append(row)
    return list(groups.items())


def _runs(rows: list[Row], benchmark: str) -> Iterator[list[Row]]:
    """Yield the rows of each run of a benchmark, separately for each question."""
    own = [row for row in rows if row["benchmark"] == benchmark]
    for _, group in itertools.groupby(
        own, key=lambda row: (_run_of(row), row.get("question"))
    ):
        yield list(group)


def _run_of(row: Row) -> str:
    """Return a key that is the same for all rows of one run of a benchmark."""
    return json.dumps([row["run"], row["command"]])


def _parts_of(path: Path) -> tuple[str, str]:
    """Return the text before and after the marks of a file."""
    try:
        words = path.read_text()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    begin, end = MARKS
    if words.count(begin) != 1 or words.count(end) != 1:
        raise InputError(f"expected {begin} and {end} once in {path}; add them")
    before, rest = words.split(begin)
    return before, rest.split(end)[1]


if __name__ == "__main__":
    _script.run(main)
