"""How a page looks, and what it does: a click on a column's name sorts the table."""

STYLE = """
:root { color-scheme: light; --ours: #0f766e; --peer: #7c8594; --tuned: #b3bac5;
  --light: #7fb8b1; --line: #e3e1dc; --quiet: #5c6370; --bad: #b42318; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f5f2; color: #222;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
    sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem;
  background: #fff; }
h1, h2, h3 { line-height: 1.25; margin: 1.8em 0 0.5em; overflow-wrap: anywhere; }
h1 { margin-top: 0.4em; }
h2 { border-top: 2px solid #ddd; padding-top: 0.9em; }
h3 { font-size: 1.05rem; }
p, li { max-width: 48rem; overflow-wrap: anywhere; }
a { color: #0b5f8a; }
nav { background: #f6f5f2; border-radius: 6px; padding: 0.6em 1em; margin: 1em 0; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav > .toc > ul { display: flex; flex-wrap: wrap; gap: 0.1em 1.6em; }
nav ul ul { font-size: 0.85rem; padding-left: 1em; }
nav li:has(ul) { flex: 1 1 20rem; }
.table { overflow-x: auto; margin: 1em 0; max-width: 100%;
  background: linear-gradient(to right, #fff 2rem, #fff0) local,
    linear-gradient(to left, #fff 2rem, #fff0) right / 2rem 100% no-repeat local,
    linear-gradient(to right, #0003, #0000) left / 0.7rem 100% no-repeat,
    linear-gradient(to left, #0003, #0000) right / 0.7rem 100% no-repeat; }
table { border-collapse: collapse; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.3em 0.7em; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { vertical-align: bottom; }
table:not(.bars) thead th { border-bottom: 2px solid #bbb; cursor: pointer; }
thead th[aria-sort="ascending"]::after { content: " \\25B2"; }
thead th[aria-sort="descending"]::after { content: " \\25BC"; }
td[style*="right"] { white-space: nowrap; }
td:first-child { min-width: 8rem; } .wide td:first-child { min-width: 12rem; }
.good { color: var(--ours); } .bad { color: var(--bad); }
td[data-head="note"] { min-width: 14rem; }
[data-head="verdict"] { white-space: nowrap; }
code { background: #f0efeb; padding: 0.1em 0.3em; border-radius: 3px;
  font-size: 0.9em; overflow-wrap: anywhere; }
details { margin: 0.6em 0; }
details details { margin-left: 1em; }
summary { cursor: pointer; color: #0b5f8a; }
figure { margin: 1em 0; overflow-x: auto; }
img { max-width: 100%; height: auto; display: block; }
.cards, .several .panels { display: grid; gap: 1.2rem 2.2rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.several { grid-column: 1 / -1; }
.card h3 { margin: 0.4em 0 0; }
.panel { container-type: inline-size; }
.panel .table { margin: 0 0 0.5em; }
.of { color: var(--quiet); font-size: 0.8rem; line-height: 1.35;
  margin: 0.2em 0 0.4em; }
.bars { width: 100%; }
.bars th, .bars td { border: 0; padding: 0.12em 0.5em 0.12em 0;
  vertical-align: middle; }
.bars th { font-weight: 400; width: 38%; }
.bars .ours th { font-weight: 600; }
.bars .number { text-align: right; white-space: nowrap; width: 1%; padding-right: 0; }
.bars .number + .number { padding-left: 0.9em; min-width: 4em; }
.bars thead th, .bars thead td { color: var(--quiet); font-size: 0.8rem; }
.bar { position: relative; min-width: 3rem; }
.bar i { position: absolute; left: 0; top: calc(50% - 0.5em); height: 1em;
  border-radius: 2px; background: var(--peer); }
.bar b { position: absolute; top: calc(50% - 1px); height: 2px; background: #111; }
.tuned .bar i, .key .tuned { background: var(--tuned); }
.ours .bar i, .key .ours, .form .bar i, .key .form { background: var(--ours); }
.form_tuned .bar i, .key .form_tuned { background: var(--light); }
@container (max-width: 28rem) {
  .bars, .bars tbody, .bars thead { display: block; }
  .bars tr { display: flex; flex-wrap: wrap; align-items: baseline; }
  .bars th:not(.number) { flex: 1; }
  .bars tbody tr { margin-bottom: 0.3em; }
  .bars th, .bars .number { width: auto; padding-bottom: 0; }
  .bars .number { min-width: 3.8em; }
  .bars .bar { order: 9; flex: 0 0 100%; height: 0.6em; padding: 0; }
  .bars .bar i { top: 0; height: 0.6em; }
  .bars thead td { display: none; }
}
.key { font-size: 0.85rem; color: var(--quiet); display: flex; flex-wrap: wrap;
  gap: 0.1em 1.3em; margin-bottom: 0.6em; }
.key i { display: inline-block; width: 0.9em; height: 0.9em; margin: 0 0.35em 0 0;
  vertical-align: -0.1em; border-radius: 2px; background: var(--peer); }
.ratio { font-size: 1.25rem; font-weight: 600; color: var(--ours); }
.ratio.less { color: var(--bad); }
@media (max-width: 40rem) {
  main { padding-top: 0.5rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; }
  .wide thead { display: none; }
  .wide, .wide tbody { display: block; }
  .wide tr { display: block; padding: 0.5em 0; border-bottom: 1px solid var(--line); }
  .wide td { display: flex; justify-content: space-between; gap: 1em; border: 0;
    padding: 0.08em 0; text-align: right !important; white-space: normal !important; }
  .wide td:first-child { display: block; text-align: left !important;
    font-weight: 600; }
  .wide td:empty { display: none; }
  .wide td + td::before { content: attr(data-head); color: var(--quiet);
    text-align: left; }
  .dense tr { display: grid; gap: 0 0.8em;
    grid-template-columns: minmax(0, 1fr) minmax(0, 1fr) minmax(0, 1.4fr); }
  .dense td, .dense td:first-child { display: block; text-align: left !important;
    min-width: 0; }
  .dense td:first-child { grid-column: 1 / -1; }
  .dense td + td::before { display: block; font-size: 0.78rem; }
  .dense td:first-child:has(+ [data-head="verdict"]) { grid-column: 1 / 3; }
  .dense [data-head="verdict"] { text-align: right !important; }
  .dense [data-head="note"] { grid-column: 1 / -1; color: var(--quiet); }
  .dense :is([data-head="verdict"], [data-head="note"])::before { content: none; }
  table { font-size: 0.85rem; }
  th { overflow-wrap: anywhere; }
  thead th { font-size: 0.75rem; min-width: 4.6em; }
  table:not(.wide):not(.bars) :is(th, td) { padding: 0.25em 0.35em; }
  table:not(.wide):not(.bars) :is(th, td):first-child { min-width: 5.5rem;
    padding-left: 0; }
  .broad img { max-width: none; width: 44rem; }
  .broad::before { content: "This picture scrolls sideways."; position: sticky; left: 0;
    color: var(--quiet); font-size: 0.8rem; }
}
@media print { details::details-content { content-visibility: visible; } }
"""

# A cell sorts by the number that it begins with; where there is none, by its words.
SCRIPT = """
for (const head of document.querySelectorAll("table:not(.bars) thead th")) {
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
