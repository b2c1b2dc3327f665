"""Turn Markdown into a self-contained HTML page: pictures inside, no network needed.

A click on a column's name sorts its table. The browser is told to run this one script,
and to fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path

from cnnjax.base.intake import read_bytes
from cnnjax.base.printable import printable
from cnnjax.studies.reporting.markup import html_of
from cnnjax.studies.reporting.style import SCRIPT, STYLE

IMAGE = re.compile(r'<p><img alt="([^"]*)" src="([^":]+\.(png|svg))"></p>')
MEDIA = {"png": "image/png", "svg": "image/svg+xml"}
BROAD = 700  # pixels of a picture that a phone scrolls, as it could not be read


def page_of(
    text: str,
    *,
    folder: Path,
    title: str,
    levels: str = "2-2",
    inserts: Mapping[str, str] | None = None,
) -> str:
    """Return the page that shows a Markdown text, its contents below the title.

    PNG and SVG files that it names, relative to the folder, are put into the page. A
    paragraph that is the name of an insert becomes that HTML.

    Raises:
        InputError: a picture cannot be read.
    """
    body, contents = html_of(text, levels=levels, inserts=inserts)
    body = body.replace("<table", '<div class="table"><table')
    body = body.replace("</table>", "</table></div>")
    contents = (
        f'<nav aria-label="Contents">{contents}</nav>' if "<li>" in contents else ""
    )
    body = body.replace("</h1>", f"</h1>\n{contents}", 1)

    def inline(match: re.Match[str]) -> str:
        content = read_bytes(folder / html.unescape(match[2]))
        width = int.from_bytes(content[16:20])  # of a PNG
        broad = match[3] == "png" and width > BROAD
        source = f"data:{MEDIA[match[3]]};base64,{base64.b64encode(content).decode()}"
        kind = ' class="broad"' if broad else ""
        return f'<figure{kind}><img alt="{match[1]}" src="{source}"></figure>'

    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(printable(title))}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{IMAGE.sub(inline, body)}\n</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _policy() -> str:
    """Return what the browser may do: show pictures that are here, run our script."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
