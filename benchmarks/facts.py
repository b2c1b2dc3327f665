"""The sections that tell of memory, growth, compile time and accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pictures
import tables
import words
from blocks import Card, Panel
from setups import Group, Row, told_of

from cnnjax.results.workdir import Workdir
from cnnjax.studies.reporting.words import counted, table, text


def memory(groups: Sequence[Group]) -> str:
    """Return what each form needs besides its data, and the peak of each process."""
    mean = [group for group in groups if group.task == "mean"]
    single = [group for group in groups if group.task != "mean"]
    whole = [
        _table(mean, "form", _is_plain_ours, _temporary),
        _table(single, "rule", _is_plain_ours, _temporary),
    ]
    peak = _table(mean, "process", _is_whole, _peak)
    parts = [part for part in whole if part]
    parts = [words.TEMPORARY, *parts] if parts else []
    return "\n\n".join([*parts, *([words.PEAK, peak] if peak else [])])


def compile_time(groups: Sequence[Group]) -> str:
    """Return the seconds until the first update is done, without and with a cache."""
    return _table(groups, "form", _is_plain_ours, _built)


def _table(
    groups: Sequence[Group],
    what: str,
    shown: Callable[[Row], bool],
    cell: Callable[[Row], str],
) -> str:
    """Return a table of one machine: contenders below, recipes and batches beside."""
    columns = list(dict.fromkeys((g.recipe, g.batch_size) for g in groups))
    cells: dict[str, dict[tuple[str, int], str]] = {}
    for group in groups:
        for row in filter(shown, group.timed):
            told = cells.setdefault(_name(row), {})
            told.setdefault((group.recipe, group.batch_size), cell(row))
    kept = {name: told for name, told in cells.items() if any(told.values())}
    head = (what, *(f"{_breakable(text(r))}, batch {b:,}" for r, b in columns))
    rows = [
        [text(name), *(told.get(column, "") for column in columns)]
        for name, told in kept.items()
    ]
    return table(head, rows) if rows else ""


def _breakable(name: str) -> str:
    """Let a browser break a name after an underscore."""
    return name.replace("_", "_&#8203;")


def growth(
    runs: Sequence[Sequence[Row]], drawn: Workdir, name: Callable[[Row], str]
) -> list[Card]:
    """Draw each question of how time grows; return a card for each picture."""
    cards = []
    for number, rows in enumerate(runs):
        timed = [row for row in rows if "step_seconds" in row]
        if not timed or rows[0]["question"] not in pictures.AXES:
            continue
        file = f"scaling_{number}.svg"
        drawn.write_bytes(
            file, pictures.draw_scaling(timed, question=rows[0]["question"])
        )
        cards.append(Card(_title(rows[0]), [Panel(_of(rows, name), file)]))
    return cards


def growth_tables(runs: Sequence[Sequence[Row]], name: Callable[[Row], str]) -> str:
    """Return the numbers of each question."""
    parts = []
    for rows in runs:
        parts += [f"**{text(_title(rows[0]))}.** {text(_of(rows, name))}"]
        parts.append(tables.scaling_table(rows))
    return "\n\n".join(parts)


def accuracy(
    runs: Sequence[Sequence[Row]], drawn: Workdir, name: Callable[[Row], str]
) -> list[Card]:
    """Draw the error of each run by its seconds; return a card for each."""
    cards = []
    for number, rows in enumerate(runs):
        file = f"accuracy_{number}.svg"
        drawn.write_bytes(file, pictures.draw_accuracy(rows))
        cards.append(Card(_title_of_training(rows), [Panel(_of(rows, name), file)]))
    return cards


def accuracy_tables(runs: Sequence[Sequence[Row]], name: Callable[[Row], str]) -> str:
    """Return the seconds to each accuracy, run by run."""
    parts = []
    for rows in runs:
        parts.append(f"**{text(_title_of_training(rows))}.** {text(_of(rows, name))}")
        parts.append(tables.accuracy_table(rows))
    return "\n\n".join(parts)


def _name(row: Row) -> str:
    """Name a row: of a peer, its fastest variant stands for all."""
    name = row["contender"]
    return name.removeprefix("cnnjax ") if row["ours"] else name.split(",")[0]


def _title(row: Row) -> str:
    return f"{row['recipe']}: {row['title']}"


def _title_of_training(rows: Sequence[Row]) -> str:
    row = rows[0]
    seeds = counted(len(row["curves"]), "seed")
    told = f"batch {row['batch_size']}, {row['epochs']} epochs, {seeds}"
    return f"{row['recipe']} on {row['dataset']}, {told}"


def _of(rows: Sequence[Row], name: Callable[[Row], str]) -> str:
    return told_of(rows, name(rows[0]))


def _built(row: Row) -> str:
    stages = row["facts"].get("stages", {}).values()
    return " / ".join(f"{sum(own.values()):.2f}" for own in stages)


def _is_plain_ours(row: Row) -> bool:
    return row["ours"] and not row["tuned"]


def _is_whole(row: Row) -> bool:
    return not row["tuned"] and "microbatch" not in row["contender"]


def _temporary(row: Row) -> str:
    return _mebibytes(row["facts"].get("temporary_bytes"))


def _peak(row: Row) -> str:
    return _mebibytes(row.get("peak_bytes"))


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:,.1f}"
