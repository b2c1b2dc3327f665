"""Markdown as HTML that shows, and does nothing else.

What is reported was measured elsewhere: a device's name or a command is text, whatever
it looks like. Tags in Markdown stay text; a link leads into the page or to the web.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement

import markdown
from markdown.blockprocessors import BlockProcessor
from markdown.extensions import Extension
from markdown.extensions.toc import TocExtension
from markdown.treeprocessors import Treeprocessor

FOLD = re.compile(r"^<details>\n<summary>(.*)</summary>$")
END = "</details>"
PARAGRAPH = re.compile(r"<p>([\w-]+)</p>")
LINK = re.compile(r"#[\w-]+|https?://[\w./#?=&%~+:@-]+|[\w-][\w./#-]*")
IMAGE = re.compile(r"(?!.*\.\.)[\w-][\w./-]*\.(png|svg)")  # below the page
# Columns that fit a phone; each row of a table that has more becomes a card there.
MOST_NUMBERS, MOST_WORDS = 5, 3
MOST_DENSE = 8  # columns of numbers, of which a card has three on a line
KINDS = {"in band": "good", "out of band": "bad"}  # colours of verdicts


class Shown(NamedTuple):
    """A text as HTML."""

    body: str
    contents: str  # a list of links to its headings


def html_of(
    text: str, *, levels: str = "2-2", inserts: Mapping[str, str] | None = None
) -> Shown:
    """Turn Markdown into HTML, with contents of the headings of these levels.

    A paragraph that is the name of an insert becomes that HTML. `<details>` with a
    `<summary>` on the next line begins what is folded, as words.fold writes it.
    """
    contents = TocExtension(toc_depth=levels)
    converter = markdown.Markdown(
        extensions=["tables", contents, _Tame()], output_format="html"
    )
    body = converter.convert(text)
    # In one pass: what is put in names nothing else that is to be put in.
    parts = inserts or {}
    body = PARAGRAPH.sub(lambda found: parts.get(found[1], found[0]), body)
    return Shown(body, getattr(converter, "toc", ""))


class _Tame(Extension):
    """No tags but Markdown's own, folds apart; plain links; tables that fit."""

    def extendMarkdown(self, md: markdown.Markdown) -> None:  # noqa: N802
        """Register all that."""
        md.preprocessors.deregister("html_block")
        md.inlinePatterns.deregister("html")
        md.parser.blockprocessors.register(_Fold(md.parser), "fold", 175)
        md.treeprocessors.register(_Links(md), "links", -10)
        md.treeprocessors.register(_Tables(md), "tables that fit", -20)


class _Fold(BlockProcessor):
    def test(self, parent: Element, block: str) -> bool:
        return FOLD.match(block) is not None

    def run(self, parent: Element, blocks: list[str]) -> bool:
        end = _end(blocks)
        if end is None:
            return False  # nothing ends it: it is text
        begin = FOLD.match(blocks[0])
        assert begin is not None
        details = SubElement(parent, "details")
        SubElement(details, "summary").text = begin[1]
        self.parser.parseBlocks(details, blocks[1:end])
        del blocks[: end + 1]
        return True


def _end(blocks: Sequence[str]) -> int | None:
    """Return where what the first block begins ends; folds may stand in folds."""
    depth = 0
    for at, block in enumerate(blocks):
        depth += (FOLD.match(block) is not None) - (block == END)
        if depth == 0:
            return at
    return None


class _Links(Treeprocessor):
    """Take away where a link leads, unless into the page, beside it, or to the web."""

    def run(self, root: Element) -> None:
        for tag, attribute, good in (("a", "href", LINK), ("img", "src", IMAGE)):
            for element in root.iter(tag):
                if not good.fullmatch(element.get(attribute, "")):
                    element.attrib.pop(attribute, None)


class _Tables(Treeprocessor):
    """Give each cell the name of its column, which a phone shows beside it."""

    def run(self, root: Element) -> None:
        for table in root.iter("table"):
            heads = ["".join(cell.itertext()) for cell in table.iter("th")]
            marks = [cell.get("style", "") for cell in table.iter("th")]
            numbers = all("right" in mark for mark in marks[1:])
            if len(heads) > (MOST_NUMBERS if numbers else MOST_WORDS):
                few = numbers and len(heads) <= MOST_DENSE
                dense = " dense" * (few or "note" in heads)
                table.set("class", f"wide{dense}")
            for row in table.iter("tr"):
                for cell, head in zip(row.findall("td"), heads, strict=False):
                    cell.set("data-head", head)
                    if head == "verdict" and (
                        kind := KINDS.get("".join(cell.itertext()))
                    ):
                        cell.set("class", kind)
