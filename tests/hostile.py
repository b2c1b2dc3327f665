"""Texts that try to be more than text on a page or a terminal; a page's structure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "[x](javascript:alert(1))",
    "![x](javascript:alert(1))",
    "![x](pictures/scaling_0.svg)",
    "[x](https://evil.example)",
    "<javascript:alert(1)> <https://evil.example> <eve@evil.example>",
    "&lt;script&gt; &#60;b&#62; &#x3c;i&#x3e; java&#115;cript:x",
    "</style></title></summary></details></main><b>",
    "<![CDATA[ ]]> --> <!-- <?x?>",
    "\n\n<details>\n<summary>x</summary>\n\n</details>\n\n",
    "# x",
    "### x ###",
    "- x",
    "+ x",
    "1. x",
    "> x",
    "    x",
    "***x*** __y__ _z_ ~~w~~ **",
    "`x` ``y` ",
    "`",
    "a|b",
    "| x | y |\n| --- | --- |\n| 1 | 2 |",
    "[x]: javascript:alert(1)\n\n[x]",
    "cards-1",
    "key-of-colours",
    "\x02wzxhzdk:0\x03 \x02klzzwxh:0001\x03 \x02amp\x03",
    "\u202ex\x1b[2J\x1b]0;x\x07\r\x00\x9b\u2028\udcff",
    r"$\frac{$ $$ \$",
    "_x",
    "---",
    "===",
    "* * *",
    "\\",
    "{: onclick=alert(1)}",
    "x " * 200,
)
ATTRIBUTES = {  # all that a page has, by the elements
    "a": {"href"},
    "b": {"style"},
    "div": {"class"},
    "figure": {"class"},
    "h1": {"id"},
    "h2": {"id"},
    "h3": {"id"},
    "html": {"lang"},
    "i": {"class", "style"},
    "img": {"alt", "src"},
    "meta": {"charset", "content", "http-equiv", "name"},
    "nav": {"aria-label"},
    "p": {"class"},
    "table": {"class"},
    "td": {"class", "data-head", "style"},
    "th": {"class", "scope", "style"},
    "tr": {"class"},
}


class Structure(HTMLParser):
    """Count a page's elements with their attributes, and collect links and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter = Counter()
        self.links: list[Any] = []
        self.text = ""
        self.odd: list[str] = []  # what no page of ours has
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        names = {name for name, _ in attrs}
        self.elements[tag, *sorted(names)] += 1
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if extra := names - ATTRIBUTES.get(tag, set()):
            self.odd.append(f"{tag} with {', '.join(extra)}")

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.odd.append(f"a comment: {data}")

    def handle_pi(self, data):
        self.odd.append(f"an instruction: {data}")

    def unknown_decl(self, data):
        self.odd.append(f"a declaration: {data}")


def obeyed(text: str) -> list[str]:
    """Return the characters that a terminal would obey, but for the end of a line."""
    signs = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return [c for c in text if unicodedata.category(c) in signs and c != "\n"]


def check_page(page: str, harmless: str) -> None:
    """Hold a page of hostile texts to one of plain words: no more than these."""
    found, plain = Structure(page), Structure(harmless)
    assert not found.odd
    assert not found.elements.keys() - plain.elements.keys()
    assert plain.elements.keys() - found.elements.keys() <= {("code",)}
    for one in ("script", "style", "details", "summary", "table", "h1", "h2", "h3"):
        for element in found.elements:
            if element[0] == one:
                assert found.elements[element] == plain.elements[element], element
    assert all(link.startswith(("#", "data:image/")) for link in found.links)
    assert not [c for c in obeyed(page) if c != "\u200b"]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
    meta = '<meta http-equiv="Content-Security-Policy" content="'
    assert page.count(meta) == page.count(meta + policy) == 1


def with_texts(value: Any, replace: Callable[[str], str]) -> Any:
    """Return JSON with each text replaced."""
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        return {name: with_texts(own, replace) for name, own in value.items()}
    if isinstance(value, list):
        return [with_texts(own, replace) for own in value]
    return value
