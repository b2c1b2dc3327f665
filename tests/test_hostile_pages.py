"""Results of other machines are input: on a page they are text, whatever they say."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import results
from hostile import PAYLOADS, check_page, obeyed, with_texts
from published_runs import write_job

from cnnjax.base.errors import InputError
from cnnjax.studies import published
from cnnjax.studies.reporting import style
from cnnjax.studies.reporting.page import page_of
from cnnjax.studies.reporting.words import code, table, text
from cnnjax.studies.reproduction.plan import plan
from cnnjax.studies.runner.campaign import Campaign

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "benchmarks" / "report.py"
KEPT = ("benchmark", "task", "question")  # what is not shown as it is recorded


def some_rows() -> list[dict]:
    """Return a few rows of each benchmark, one that failed among them."""
    path = ROOT / "benchmarks" / "results" / "cpu.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    speed = [row for row in rows if row["benchmark"] == "throughput"]
    ours = [row for row in speed if row["ours"]][:2]
    group = [r for r in speed if r["recipe"] == ours[0]["recipe"] and not r["ours"]]
    failed = copy.deepcopy(group[1]) | {"failure": "it failed"}
    for name in ("examples_per_second", "facts"):
        del failed[name]
    kept = [*ours, group[0], failed]
    for name in ("accuracy", "scaling"):
        kept += [row for row in rows if row["benchmark"] == name][:2]
    assert {row["benchmark"] for row in kept} == {"throughput", "accuracy", "scaling"}
    return kept


ROWS = some_rows()


def replaced(row: dict, payload: str) -> dict:
    """Return a row in which every text is the payload, and many a name."""
    new = with_texts(row, lambda _: payload)
    new |= {name: row[name] for name in KEPT if name in row}
    new["environment"]["peers"] = {payload: payload, "torch": payload}
    new["environment"]["platform"] = f"gpu{payload}"
    new[payload] = payload
    if "stages" in new.get("facts", {}):
        new["facts"]["stages"] = {payload: {payload: 1.0}}
    return new


def page_with(forks, folder: Path, payloads) -> tuple[str, str]:
    rows = [replaced(row, payload) for payload in payloads for row in ROWS]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = forks.run(REPORT, f"--out={folder / 'out'}", path, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not obeyed(done.stdout + done.stderr)
    out = folder / "out"
    for picture in (out / "pictures").glob("*.svg"):
        assert "<script" not in picture.read_text()
    return (out / "report.html").read_text(), (out / "report.md").read_text()


def test_rows_of_hostile_texts_are_shown_as_those_of_plain_words(forks, tmp_path):
    for name in ("hostile", "plain"):
        (tmp_path / name).mkdir()
    page, words = page_with(forks, tmp_path / "hostile", PAYLOADS)
    plain = [f"plain{at}" for at in range(len(PAYLOADS))]
    harmless, told = page_with(forks, tmp_path / "plain", plain)
    check_page(page, harmless)
    assert "<script>alert(1)</script>" not in page
    assert "alert(1)" in page  # as text
    # Nor do tables in Markdown have more rows or cells.
    counts = [
        [line.count("|") for line in one.splitlines() if line.startswith("|")]
        for one in (words, told)
    ]
    assert sorted(counts[0]) == sorted(counts[1])
    assert len(re.findall("(?m)^#", words)) == len(re.findall("(?m)^#", told))
    assert not [c for c in obeyed(words) if c != "\u200b"]


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value in JSON."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value[:1]) if isinstance(value, list) else items
    yield path
    for name, own in items:
        yield from leaves(own, (*path, name))


WRONG = ("<b>", None, [], {}, True, -1, 0, 1.5, 1e308, 10**30, [[]], {"": ""})


def test_a_field_of_another_kind_is_told_in_a_line(tmp_path):
    """Whatever stands in its place: numbers that are texts, lists that are numbers."""
    path, told, said = tmp_path / "rows.jsonl", set(), []
    for row in ROWS:
        for place in list(leaves(row))[1:]:
            for wrong in WRONG:
                new = copy.deepcopy(row)
                at = new
                for name in place[:-1]:
                    at = at[name]
                at[place[-1]] = wrong
                path.write_text(json.dumps(new) + "\n")
                try:
                    results.read(path, benchmarks=results_of(row))
                except InputError as error:
                    told.add(place[0])
                    said.append(str(error))
    assert not obeyed("".join(said))
    assert "\n" not in "".join(said)
    assert {"batch_size", "examples_per_second", "curves", "targets", "x"} <= told
    assert {"environment", "ours", "task", "step_seconds", "command", "recipe"} <= told


def extreme(value: Any, number: float) -> Any:
    """Return JSON with every number replaced, and whole ones by whole ones."""
    if isinstance(value, dict):
        return {name: extreme(own, number) for name, own in value.items()}
    if isinstance(value, list):
        return [extreme(own, number) for own in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return min(max(round(number), 1), 2**62) if isinstance(value, int) else number


@pytest.mark.parametrize("number", [1e-290, 1.0, 1e290])
def test_numbers_of_any_size_are_shown(number, forks, tmp_path):
    rows = [extreme(row, number) for row in ROWS]
    for row in rows:
        for reached in row.get("targets", {}).values():
            reached["seeds"] = int(reached["train_seconds"] is not None)
        if row["benchmark"] == "accuracy":  # which is at most 1
            row["accuracy"] |= dict.fromkeys(("median", "low", "high"), min(number, 1))
            row["curves"] = [
                [p | {"accuracy": min(number, 1)} for p in c] for c in row["curves"]
            ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = forks.run(REPORT, f"--out={tmp_path / 'out'}", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # Matplotlib may warn of its axes


def results_of(row: dict) -> tuple[str, ...]:
    return (row["benchmark"],)


def hostile_campaign(folder: Path, payload: str, name: str) -> str:
    """Report one trained job, and two that failed, in a folder of that name."""
    to = folder / name
    to.mkdir()
    systems = [published.get_system("B")]
    trained, *failed = plan(systems, scale="quick", workdir=to)[:3]
    lines = [{"epoch": n, "train_loss": 0.1 / n, payload: 1.0} for n in (1, 2)]
    write_job(trained, lines=lines, test_loss=0.01, train_seconds=0.1)
    file = trained.folder / "result.json"
    result = json.loads(file.read_text())
    environment = with_texts(result["environment"], lambda _: payload)
    file.write_text(
        json.dumps({**result, "environment": environment, payload: payload})
    )
    for job in failed:
        job.complaint.parent.mkdir(parents=True, exist_ok=True)
        job.complaint.write_bytes(payload.encode(errors="surrogatepass"))
    Campaign(
        systems,
        scale="quick",
        data_dir=None,
        to=to,
        command=["python", f"--workdir={to}", payload],
    ).report()
    assert not [c for c in obeyed((to / "report.md").read_text()) if c != "\u200b"]
    return (to / "report.html").read_text()


@pytest.mark.parametrize(
    "payload",
    [*PAYLOADS[:6], PAYLOADS[9], PAYLOADS[10], PAYLOADS[20], *PAYLOADS[23:30]],
)
def test_a_report_of_hostile_results_and_folders(payload, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cnnjax.studies.reporting.pictures.draw_panels", lambda *_, **__: b"\x89PNG"
    )
    name = payload.replace("/", "").replace("\x00", "")[:60]
    page = hostile_campaign(tmp_path, payload, name)
    harmless = hostile_campaign(tmp_path, "plain", "plain")
    check_page(page, harmless)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_text_is_a_text_wherever_it_stands(payload, tmp_path):
    def page(words: str, title: str) -> str:
        parts = [f"# {words}", words, f"- {words}", f"**{words}**", f"1. {words}"]
        parts += [table([words, words], [[words, words]] * 2), f"> {words}", words]
        return page_of("\n\n".join(parts), folder=tmp_path, title=title)

    for shown in (text, code):
        found = page(shown(payload), payload)
        check_page(found, page(shown("plain"), "plain"))


def test_the_policy_allows_the_pages_own_script_and_no_other(tmp_path):
    page = page_of("# x", folder=tmp_path, title="x")
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    assert script == style.SCRIPT
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', page)
    assert f"script-src 'sha256-{digest}'; " in policy
    assert "base-uri 'none'; form-action 'none'" in policy
    assert page.index("Content-Security-Policy") < page.index("<style>")
