"""Pages of the site that lie elsewhere, or are made: README, the tour, the library."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
# README.md would be another index.
AT_HOME = {
    "overview.md": "README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
SHOWN = ("five_systems/report.md", "memory.md")  # of the results
ROOMS = re.compile(r"^cnnjax/\n((?:  .*\n)+)", re.MULTILINE)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the navigation list every room of the library."""
    rooms = [f"api/{name}.md" for name in _library() if name != "index"]
    config.nav[-1]["The library"] += rooms
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not in docs/."""
    for name, source in AT_HOME.items():
        files.append(_made(config, name, _moved((ROOT / source).read_text())))
    for name in SHOWN:
        text = (RESULTS / name).read_text()
        files.append(_made(config, f"results/{name}", text))
    for path in sorted((RESULTS / "five_systems" / "pictures").glob("*.png")):
        at = f"results/five_systems/pictures/{path.name}"
        files.append(File.generated(config, at, abs_src_path=str(path)))
    tour = (ROOT / "docs" / "tour.py").read_text()
    about = ast.get_docstring(ast.parse(tour)) or ""
    files.append(_made(config, "tour.md", f"# The tour\n\n{_code(about, tour)}"))
    for name, text in _library().items():
        files.append(_made(config, f"api/{name}.md", text))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Let links from docs/ to other folders lead to pages of the site."""
    if "/" in page.file.src_uri:
        return markdown
    for old, new in (
        ("../benchmarks/results/", "results/"),
        ("../README.md", "overview.md"),
    ):
        markdown = markdown.replace(f"]({old}", f"]({new}")
    return markdown.replace("](tour.py)", "](tour.md)")


def _made(config: MkDocsConfig, name: str, text: str) -> File:
    return File.generated(config, name, content=text)


def _moved(text: str) -> str:
    """Return a page of the top folder with its links as they are from docs/."""

    def link(found: re.Match[str]) -> str:
        at = found[2].removeprefix("docs/").replace("README.md", "overview.md")
        return f"{found[1]}{at}{found[3]}"

    return LINK.sub(link, text)


def _code(about: str, source: str) -> str:
    body = source.split('"""', 2)[2].strip()
    return f"{about}\n\n```python\n{body}\n```\n"


def _library() -> dict[str, str]:
    """Return a page for each room, and one that lists them, as README does."""
    (block,) = ROOMS.findall((ROOT / "README.md").read_text())
    rows, pages = [], {}
    for line in block.splitlines():
        name, _, about = line.strip().partition(" ")
        path = ROOT / "cnnjax" / name
        if name.startswith("__") or name == "py.typed":
            continue
        room = name.removesuffix("/").removesuffix(".py")
        rows.append(f"- [`{name}`]({room}.md): {about.strip()}")
        modules = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        parts = [f"# {name}", about.strip()]
        for module in modules:
            dotted = ".".join(module.relative_to(ROOT).with_suffix("").parts)
            dotted = dotted.removesuffix(".__init__")
            init = module.name == "__init__.py"  # what it names is shown where it is
            options = "    options: {members: false}\n" * init
            parts += [f"## {dotted}", f"::: {dotted}\n{options}"]
        pages[room] = "\n\n".join(parts) + "\n"
    rooms = "\n".join(rows)
    pages["index"] = f"# The library\n\nIts rooms, from the ground up:\n\n{rooms}\n"
    return pages
