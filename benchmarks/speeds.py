"""The sections that tell of speed: in short, by form, against peers, per example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tables
from blocks import Bar, Bars, Card, Kind, Panel
from setups import Chosen, Group, Row, rate, told_of


def summary(chosen: Sequence[Chosen]) -> list[Card]:
    """Return for each recipe our best form beside the best peer, on each machine."""
    panels: dict[str, list[Panel]] = {}
    for group, others in chosen:
        best, peer = group.ours, group.peer(tuned=True)
        if best is None or peer is None:
            continue
        installed = group.peer(tuned=False)
        rows = [best, peer]
        if installed is not None and installed is not peer:
            rows.append(installed)
        rows.sort(key=rate, reverse=True)
        ratio = rate(best) / rate(peer)
        panel = Panel(
            f"Batch {group.batch_size:,}. {_of(group)}",
            _bars(rows, heads=("", "examples/s")),
            ratio=f"{ratio:.2f} times the best peer",
            slower=ratio < 1,
            note=_again(others),
        )
        panels.setdefault(group.recipe, []).append(panel)
    return [Card(recipe, own) for recipe, own in panels.items()]


def forms(chosen: Sequence[Chosen]) -> list[Card]:
    """Return our forms of training, the fastest first, relative to `jit`."""
    cards = []
    for group, _ in chosen:
        own = [row for row in group.timed if row["ours"]]
        plain = next((r for r in own if r["contender"] == "cnnjax jit"), None)
        if len(own) < 2:
            continue
        heads = ("form", "examples/s", *(("to jit",) if plain else ()))
        more = [(f"{rate(row) / rate(plain):.2f}",) if plain else () for row in own]
        bars = _bars(own, heads=heads, more=more)
        shades: list[Kind] = ["form_tuned" if r["tuned"] else "form" for r in own]
        shaded = [
            bar._replace(name=bar.name.removeprefix("cnnjax "), kind=shade)
            for bar, shade in zip(bars.bars, shades, strict=True)
        ]
        cards.append(_card(group, bars._replace(bars=shaded)))
    return cards


def against_peers(chosen: Sequence[Chosen]) -> list[Card]:
    """Return our best form among the best row of each peer."""
    cards = []
    for group, _ in chosen:
        best = group.ours
        peers = list(_best_of_each(row for row in group.timed if not row["ours"]))
        if best is None or not peers:
            continue
        rows = sorted([best, *peers], key=rate, reverse=True)
        ratios = [
            f"{rate(best) / rate(row):.2f} \N{MULTIPLICATION SIGN}" for row in rows
        ]
        more = [
            ("" if r is best else own,) for r, own in zip(rows, ratios, strict=True)
        ]
        bars = _bars(rows, heads=("", "examples/s", "ours is"), more=more)
        cards.append(_card(group, bars))
    return cards


def per_example(chosen: Sequence[Chosen]) -> list[Card]:
    """Return every contender of each task that asks for single gradients."""
    cards = []
    for group, _ in chosen:
        rows = group.timed
        if not rows:
            continue
        key = "times_the_batch_gradient"
        more = [(f"{row[key]:.2f}" if key in row else "",) for row in rows]
        told = any(cells[0] for cells in more)
        heads = ("", "examples/s", *(("to batch",) if told else ()))
        own = [cells if told else () for cells in more]
        cards.append(_card(group, _bars(rows, heads=heads, more=own), with_task=True))
    return cards


def _card(group: Group, bars: Bars, *, with_task: bool = False) -> Card:
    title = f"{group.recipe}, batch {group.batch_size:,}"
    if with_task:
        title += f": {tables.TASKS[group.task]}"
    return Card(title, [Panel(_of(group), bars, note=_untimed(group))])


def _of(group: Group) -> str:
    return told_of(group.rows, group.machine)


def _bars(
    rows: Sequence[Row],
    *,
    heads: Sequence[str],
    more: Sequence[Sequence[str]] | None = None,
) -> Bars:
    bars = []
    for index, row in enumerate(rows):
        told = row["examples_per_second"]
        numbers = (f"{told['median']:,.0f}", *(more[index] if more else ()))
        name, kind = row["contender"], kind_of(row)
        bars.append(Bar(name, told["median"], numbers, kind, told["low"], told["high"]))
    return Bars(bars, heads)


def kind_of(row: Row) -> Kind:
    """Return which colour a row has."""
    if row["ours"]:
        return "ours"
    return "tuned" if row["tuned"] else "peer"


def _best_of_each(rows: Iterable[Row]) -> Iterable[Row]:
    """Return the fastest row of each peer, whatever its optimizer and allocator."""
    best: dict[str, Row] = {}
    for row in rows:
        best.setdefault(row["contender"].split(",")[0], row)
    return best.values()


def _untimed(group: Group) -> str:
    """Say who has no speed, and why; who is not installed is not listed."""
    failed = [
        f"{row['contender']} ({row['failure']})"
        for row in group.rows
        if "failure" in row and not row["failure"].startswith("absent")
    ]
    return f"Not timed: {'; '.join(failed)}." if failed else ""


def _again(others: Iterable[Group]) -> str:
    """Say what other runs of the same gave, each by itself."""
    told = []
    for group in others:
        best, peer = group.ours, group.peer(tuned=True)
        if best is not None and peer is not None:
            told.append(f"{rate(best) / rate(peer):.2f} times ({group.when})")
    return f"Another run: {', '.join(told)}." if told else ""
