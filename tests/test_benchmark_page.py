"""The page of the committed results: machines apart, text as text, nothing missing."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import blocks
import pytest
import setups
import speeds

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SECTIONS = [
    "in-short",
    "which-form-is-fastest",
    "against-the-peers",
    "in-bfloat16",
    "gradients-of-single-examples",
    "memory",
    "devices-and-sizes-how-does-time-grow",
    "compile-time",
    "time-to-accuracy",
    "all-rows",
]
EVIL = (
    "</script></details>\n\n<script>alert(1)</script> `x` | [y](javascript:alert(2)) "
)
EVIL += "![z](javascript:alert(3)) <b a=\"'>"


def rows_of(name: str = "cpu.jsonl") -> list[dict]:
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]


def report(folder: Path, *paths: Path) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "report.py")]
    done = subprocess.run(
        [*command, f"--out={folder}", *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "report.html").read_text()


def links_of(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="([^"]*)"', page)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of all that is committed."""
    return report(tmp_path_factory.mktemp("page"), *sorted(RESULTS.glob("*.jsonl")))


def test_the_page_has_contents_and_a_section_for_each_question(page):
    titles = re.findall(r'<h2 id="([^"]+)">', page)
    assert titles == SECTIONS
    nav = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', nav) == titles
    assert page.index("</nav>") < page.index(f'<h2 id="{titles[0]}"')


def test_every_row_and_its_machine_are_on_the_page(page):
    rows = [row for path in RESULTS.glob("*.jsonl") for row in rows_of(path.name)]
    timed = [row for row in rows if row["benchmark"] == "throughput"]
    all_rows = page[page.index('<h2 id="all-rows">') :]
    assert all_rows.count('<td data-head="contender"') == len(timed)
    assert "NVIDIA H200; CPU model not recorded (x86_64), 16 cores" in page
    panels = page.split('<div class="panel">')[1:]
    assert len(panels) > 20
    for panel in panels:
        told, _, _ = panel.partition("</p>")
        assert re.search(r"Machine [A-Z]: .*; 2026-\d\d-\d\d", told)


def test_the_page_is_complete_in_itself(page):
    assert all(link.startswith(("#", "data:image/")) for link in links_of(page))
    assert "default-src 'none'" in page


def test_rows_of_two_machines_are_never_in_one_ratio():
    old = [row for row in rows_of() if row["benchmark"] == "throughput"]
    fast = copy.deepcopy(old)
    for row in fast:
        row["environment"]["cpu_model"] = "Faster 9000"
        for key in row.get("examples_per_second", {}):
            row["examples_per_second"][key] *= 1000
    name = setups.names_of([*old, *fast])
    groups = setups.grouped([*old, *fast], name)
    assert len({group.machine for group in groups}) == 2
    assert all(len(set(map(name, group.rows))) == 1 for group in groups)
    (_, first), (_, second) = setups.by_machine(setups.chosen(groups))
    first, second = (
        speeds.summary([one for one in own if one[0].task == "mean"])
        for own in (first, second)
    )
    assert len(first) == len(second) == 4
    for a, b in zip(first, second, strict=True):
        assert [panel.ratio for panel in a.panels] == [p.ratio for p in b.panels]
        assert all("CPU model not recorded" in panel.of for panel in a.panels)
        assert all("Faster 9000" in panel.of for panel in b.panels)


def test_bars_are_sorted_and_to_one_scale():
    rows = rows_of()[:31]
    (card,) = speeds.forms(setups.chosen(setups.grouped(rows, setups.names_of(rows))))
    bars = card.panels[0].content
    assert isinstance(bars, blocks.Bars)
    values = [bar.value for bar in bars.bars]
    assert values == sorted(values, reverse=True)
    widths = list(map(float, re.findall(r'<i style="width:([\d.]+)%', bars.html())))
    assert widths == sorted(widths, reverse=True)
    assert 90 < widths[0] <= 100


def test_what_was_recorded_never_becomes_html(tmp_path):
    rows = rows_of()
    named = ("python", "device_kind", "cpu_model", "machine", "commit", "date", "jax")
    for row in rows:
        row |= {"recipe": EVIL, "dataset": EVIL, "command": [EVIL]}
        row["environment"] |= dict.fromkeys(named, EVIL)
        row["environment"] |= {"platform": "gpu", "peers": {"torch": EVIL}}
        row |= {key: EVIL for key in ("title", "failure") if key in row}
        if "contender" in row:
            row["contender"] += EVIL
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(tmp_path / "out", path)
    assert page.count("<script") == page.count("</script") == 1
    assert page.count("<details>") == page.count("</details>") > 0
    assert "<b a=" not in page
    assert "alert(1)" in page  # as text
    assert all(link.startswith(("#", "data:image/")) for link in links_of(page))
