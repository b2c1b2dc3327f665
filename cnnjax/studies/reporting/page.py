"""Turn Markdown into a self-contained HTML page: pictures inside, no network needed.

Clicking on a column's name sorts the table by it.
"""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

import markdown

from cnnjax.base.errors import InputError

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f5f2; color: #222; line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem;
  background: #fff; }
h1, h2, h3 { line-height: 1.25; margin: 2.2em 0 0.6em; }
h1 { margin-top: 0.5em; }
h2 { border-top: 2px solid #ddd; padding-top: 1em; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.table { overflow-x: auto; margin: 1em 0; }
table { border-collapse: collapse; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.35em 0.8em; border-bottom: 1px solid #e3e1dc; text-align: left;
  vertical-align: top; white-space: nowrap; }
th { border-bottom: 2px solid #bbb; cursor: pointer; }
th[aria-sort="ascending"]::after { content: " \\25B2"; }
th[aria-sort="descending"]::after { content: " \\25BC"; }
td:first-child, td:last-child { white-space: normal; }
td:first-child { min-width: 11rem; }
td:last-child:not(:empty) { min-width: 15rem; }
code { background: #f0efeb; padding: 0.1em 0.3em; border-radius: 3px;
  font-size: 0.9em; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; display: block; margin: 1em 0; }
@media (max-width: 40rem) { main { padding-top: 0.5rem; }
  table { font-size: 0.8rem; } th, td { padding: 0.3em 0.5em; }
  td:first-child { min-width: 8rem; } }
"""

# Cells are sorted by the number that they begin with or, without one, by their text.
SCRIPT = """
for (const head of document.querySelectorAll("th")) {
  head.tabIndex = 0;
  head.title = "sort";
  const sort = () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const body = head.closest("table").tBodies[0];
    const value = (row) => {
      const words = row.cells[head.cellIndex].textContent.trim();
      const number = parseFloat(words.replace(/,/g, ""));
      return [Number.isNaN(number) ? Infinity : number, words];
    };
    const rows = [...body.rows].sort((a, b) => {
      const [x, v] = value(a), [y, w] = value(b);
      return x === y ? v.localeCompare(w) : x < y ? -1 : 1;
    });
    if (down) rows.reverse();
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
}
"""

IMAGE = re.compile(r'(<img [^>]*?src=")([^":]+\.(png|svg))(")')
MEDIA = {"png": "image/png", "svg": "image/svg+xml"}


def page_of(text: str, *, folder: Path, title: str) -> str:
    """Convert a Markdown text to an HTML page.

    PNG and SVG files that it names, relative to the folder, are embedded in the page.

    Raises:
        InputError: a picture cannot be read.
    """
    body = markdown.markdown(text, extensions=["tables"], output_format="html")
    # A wide table scrolls on its own, so the page never scrolls sideways.
    body = body.replace("<table>", '<div class="table"><table>')
    body = body.replace("</table>", "</table></div>")

    def inline(match: re.Match[str]) -> str:
        path = folder / html.unescape(match[2])
        try:
            content = base64.b64encode(path.read_bytes()).decode()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        return f"{match[1]}data:{MEDIA[match[3]]};base64,{content}{match[4]}"

    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{IMAGE.sub(inline, body)}\n</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
