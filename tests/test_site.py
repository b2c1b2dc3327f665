"""The site: built without a warning, complete, and nothing fetched from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="the extra `docs` is not installed")
pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")

ROOT = Path(__file__).parent.parent
LOADED = re.compile(r"<(?:script|link|img|iframe)[^>]*\s(?:src|href)=\"?([^\s\">]+)")


pytestmark = pytest.mark.xdist_group("site")  # it is built once


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=ROOT,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
    return folder


def test_every_page_of_docs_and_every_room_is_there(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    rooms = {path.stem for path in (ROOT / "cnnjax").iterdir() if path.is_dir()}
    rooms -= {"__pycache__"}
    assert {*pages, "overview", "tour"} <= {path.stem for path in site.glob("*.html")}
    assert {*rooms, "types", "strategies"} <= {p.stem for p in site.glob("api/*.html")}


def test_docstrings_are_on_the_pages(site):
    text = (site / "api" / "gradients.html").read_text()
    assert "serial_share" in text
    assert "InputError" in (site / "api" / "base.html").read_text()
    doctest = (site / "api" / "statistics.html").read_text()
    assert "&gt;&gt;&gt;" in doctest


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        found = LOADED.findall(page.read_text())
        assert found
        own = [at for at in found if at.startswith(("http:", "https:", "//"))]
        assert own == [], page
