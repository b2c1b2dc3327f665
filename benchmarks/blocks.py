"""What stands on the page: bars, and cards of them; as Markdown, and as HTML.

Names and numbers are plain words here: both forms escape them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cnnjax.studies.reporting.words import table, text

Kind = Literal["ours", "peer", "tuned", "form", "form_tuned"]  # which colour
KEYS: dict[Kind, str] = {
    "ours": "cnnjax",
    "peer": "peer, as installed",
    "tuned": "peer, tuned allocator",
    "form": "as installed",
    "form_tuned": "tuned allocator",
}


class Bar(NamedTuple):
    """One bar: its name, length, what is written beside it, and its quartiles."""

    name: str
    value: float
    numbers: Sequence[str]
    kind: Kind
    low: float | None = None
    high: float | None = None


class Bars(NamedTuple):
    """Bars to one scale, as they are to stand: the first on top."""

    bars: Sequence[Bar]
    heads: Sequence[str]  # of the name, then of each number

    def html(self) -> str:
        """Return a table with a bar in each row."""
        ends = [bar.high or bar.value for bar in self.bars]
        scale = 100 / max(*ends, 1e-300)
        heads = "".join(
            f'<th class="number" scope="col">{html.escape(head)}</th>'
            for head in self.heads[1:]
        )
        rows = "".join(_bar(bar, scale) for bar in self.bars)
        return (
            f'<table class="bars"><thead><tr><th scope="col">'
            f"{html.escape(self.heads[0])}</th><td></td>{heads}</tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    def markdown(self) -> str:
        """Return a table of the numbers."""
        rows = [
            [
                f"**{text(bar.name)}**" if bar.kind == "ours" else text(bar.name),
                *map(text, bar.numbers),
            ]
            for bar in self.bars
        ]
        return table([text(head) for head in self.heads], rows)


class Panel(NamedTuple):
    """Bars or a picture, with the machine and the run that it is of."""

    of: str
    content: Bars | str  # or the name of a file in pictures/
    ratio: str = ""  # how many times as fast, above all
    slower: bool = False
    note: str = ""


class Card(NamedTuple):
    """Panels under one title."""

    title: str
    panels: Sequence[Panel]


def cards_html(cards: Sequence[Card]) -> str:
    """Return cards side by side, as many as fit."""
    return f'<div class="cards">{"".join(map(_card, cards))}</div>'


def cards_markdown(cards: Sequence[Card]) -> str:
    """Return cards one below the other."""
    parts = []
    for card in cards:
        parts.append(f"### {text(card.title)}")
        for panel in card.panels:
            parts.append(text(panel.of))
            if panel.ratio:
                parts.append(f"**{text(panel.ratio)}**")
            if isinstance(panel.content, Bars):
                parts.append(panel.content.markdown())
            else:
                parts.append(f"![{text(card.title)}](pictures/{panel.content})")
            parts.append(text(panel.note))
    return "\n\n".join(part for part in parts if part)


def key_html(kinds: Sequence[Kind]) -> str:
    """Return the legend of the colours."""
    told = "".join(f'<span><i class="{k}"></i>{KEYS[k]}</span>' for k in kinds)
    quartiles = "<span>black line: from quartile to quartile of the rounds</span>"
    return f'<div class="key">{told}{quartiles}</div>'


def _card(card: Card) -> str:
    panels = "".join(_panel(panel, card.title) for panel in card.panels)
    several = " several" * (len(card.panels) > 1)
    head = f"<h3>{html.escape(card.title)}</h3>"
    return f'<div class="card{several}">{head}<div class="panels">{panels}</div></div>'


def _panel(panel: Panel, title: str) -> str:
    parts = [f'<p class="of">{html.escape(panel.of)}</p>']
    if panel.ratio:
        kind = "ratio less" if panel.slower else "ratio"
        parts.insert(0, f'<div class="{kind}">{html.escape(panel.ratio)}</div>')
    if isinstance(panel.content, Bars):
        parts.append(panel.content.html())
    else:
        name = f"pictures/{panel.content}"
        parts.append(f'<p><img alt="{html.escape(title)}" src="{name}"></p>')
    if panel.note:
        parts.append(f'<p class="of">{html.escape(panel.note)}</p>')
    return f'<div class="panel">{"".join(parts)}</div>'


def _bar(bar: Bar, scale: float) -> str:
    whisker = ""
    if bar.low is not None and bar.high is not None:
        left, width = scale * bar.low, scale * (bar.high - bar.low)
        whisker = f'<b style="left:{left:.2f}%;width:{width:.2f}%"></b>'
    cells = "".join(f'<td class="number">{html.escape(n)}</td>' for n in bar.numbers)
    return (
        f'<tr class="{bar.kind}"><th scope="row">{html.escape(bar.name)}</th>'
        f'<td class="bar"><i style="width:{scale * bar.value:.2f}%"></i>{whisker}</td>'
        f"{cells}</tr>\n"
    )
