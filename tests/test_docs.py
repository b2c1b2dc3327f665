"""README and docs: their Python runs; links, paths, commands and flags exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cnnjax.experiments.beginning import REPEATING
from cnnjax.experiments.recipes import RECIPES
from cnnjax.faults import FAULTS
from cnnjax.strategies import STRATEGIES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
DOCS = [path for path in PAGES if path.name != "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
FILE = re.compile(r"(?:cnnjax|scripts|tests|benchmarks|docs)/[\w/.*]*[\w*/]")
FLAG = re.compile(r"--(\w+)")
pytestmark = pytest.mark.xdist_group("docs")


def blocks(text: str, language: str) -> list[str]:
    return [code for name, code in FENCE.findall(text) if name == language]


def prose(text: str) -> str:
    return FENCE.sub("", text)


def inline_code(text: str) -> list[str]:
    """Return what stands between single backticks; lines of a page are joined."""
    return [" ".join(code.split()) for code in CODE.findall(prose(text))]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    bare = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in bare}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for link in LINK.findall(prose(text)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            broken.append(link)
        elif anchor:
            there = text if target == page else target.read_text()
            broken += [] if anchor in anchors(there) else [link]
    return broken


def missing_files(text: str) -> list[str]:
    """Return the paths into the repository that name nothing."""
    named = {path for code in inline_code(text) for path in FILE.findall(code)}
    named |= {p for block in blocks(text, "sh") for p in FILE.findall(block)}
    return sorted(path for path in named if not list(ROOT.glob(path.rstrip("/"))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text()
    assert broken_links(page, text) == []
    assert missing_files(text) == []


def test_a_broken_link_and_a_missing_file_would_be_seen():
    text = "# One two\n[a](#one-two) [b](#two) [c](nosuch.md)\n`cnnjax/nosuch.py`\n"
    assert broken_links(README, text) == ["#two", "nosuch.md"]
    assert missing_files(text) == ["cnnjax/nosuch.py"]


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {path.name for path in (ROOT / "docs").iterdir() if path.is_file()}
    assert set(LINK.findall(index)) == pages - {"index.md"}


def run_python(page: Path, cwd: Path) -> list[str]:
    """Run the Python of a page, one block after another; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", "".join(blocks(page.read_text(), "python"))],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_readmes_python_runs(tmp_path):
    verdict, loss, accuracy = run_python(README, tmp_path)
    assert verdict == "all laws hold"
    assert float(loss.removeprefix("loss ")) < 0.02
    assert 50 < float(accuracy.removeprefix("test accuracy ").rstrip("%")) <= 100


def test_the_python_of_the_strategies_runs(tmp_path):
    lines = run_python(ROOT / "docs" / "strategies.md", tmp_path)
    assert [line.split()[0] for line in lines] == list(STRATEGIES)
    assert len({line.split()[1][:6] for line in lines}) == 1  # the loss


def test_only_pages_that_are_run_have_python():
    """Others: `findings.md` by `test_published.py`, `using.md` by `test_loaded.py`.

    And `watching.md` by `test_watching.py`.
    """
    have = {page.name for page in PAGES if blocks(page.read_text(), "python")}
    own = {"README.md", "strategies.md"}
    assert have == {*own, "findings.md", "using.md", "watching.md"}


def test_the_readme_counts_right():
    words = " ".join(README.read_text().split())
    assert f"catalogue of {len(FAULTS)} known faults" in words
    assert len(STRATEGIES) == 13
    assert "thirteen different ways" in words
    told = re.search(r"\n(\d+) of (\d+) strategies agree", README.read_text())
    assert (told[1], told[2]) == ("11", str(len(STRATEGIES)))


PLACEHOLDERS = {
    "RECIPE_A": "adam_cosine_cnn",
    "RECIPE_B": "sgd_dropout_cnn",
    "RECIPE": "adam_cosine_cnn",
    "DATASET": "mnist",
    "=N": "=2",
    "=M": "=2",
    "=NAME": "=jit",
}
NAMES = {
    "--strategy": {*STRATEGIES, "auto"},
    "--fault": set(FAULTS),
    "--recipe": set(RECIPES),
    "--recipes": set(RECIPES),
}
SCRIPT = re.compile(r"(?:python )?(?:(scripts|benchmarks)/)?(\w+)\.py( .*)?")


def commands_of(text: str) -> list[list[str]]:
    """Return the calls of our scripts that a page shows, each as path and flags."""
    return calls_in([*shell_lines(text), *inline_code(text)])


def shell_lines(text: str) -> list[str]:
    """Return what a page's blocks tell a shell, line by line."""
    return [
        line.strip()
        for block in blocks(text, "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]


def calls_in(lines: list[str]) -> list[list[str]]:
    """Return the calls of our scripts in lines, each as path and flags."""
    found = []
    for line in lines:
        shown = SCRIPT.fullmatch(line)
        if not shown or " " not in line:
            continue
        folders = (shown[1],) if shown[1] else ("scripts", "benchmarks")
        paths = [ROOT / folder / f"{shown[2]}.py" for folder in folders]
        flags = shown[3] or ""
        for name, value in PLACEHOLDERS.items():
            flags = re.sub(rf"{name}\b", value, flags)
        (path,) = [path for path in paths if path.exists()]
        own = shlex.split(flags, comments=True)
        if "--" in own:  # the launcher's, and the script's that it starts
            at = own.index("--")
            found.append([str(ROOT / own[at + 1]), *own[at + 2 :]])
            own = own[:at]
        found.append([str(path), *own])
    return found


COMMANDS = sorted({tuple(c) for page in DOCS for c in commands_of(page.read_text())})


def test_commands_are_found():
    told = commands_of("```sh\npython scripts/train.py --seed=N  # words\n```\n")
    assert told == [[str(ROOT / "scripts" / "train.py"), "--seed=2"]]
    launched = commands_of("`scripts/launch_local.py --a -- scripts/train.py --b`")
    assert [own[1:] for own in launched] == [["--b"], ["--a"]]
    assert len(COMMANDS) > 30


# A script that parses its flags, as far as absl itself does, and ends.
PARSE_ONLY = """
import runpy, sys
from absl import app, flags

def parse(main, flags_parser, **_):
    flags_parser(sys.argv)
    print(*flags.FLAGS)

app.run = parse
sys.argv[0], sys.path[0] = {script!r}, {folder!r}
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def parse(forks, tmp_path_factory):
    """Call a script without running it: it parses its flags, and prints all of them."""
    cwd = tmp_path_factory.mktemp("flags")

    def parse(script: str, *flags: str):
        wrapper = cwd / Path(script).name
        folder = str(Path(script).parent)
        wrapper.write_text(PARSE_ONLY.format(script=script, folder=folder))
        return forks.run(wrapper, *flags, cwd=cwd)

    return parse


@pytest.mark.parametrize(
    "script", sorted({own[0] for own in COMMANDS}), ids=lambda path: Path(path).name
)
def test_commands_parse(script, parse):
    for own in COMMANDS:
        if own[0] == script:
            flags = [flag for flag in own[1:] if flag != "--helpshort"]
            done = parse(script, *flags)
            assert (done.returncode, done.stderr) == (0, ""), own


def test_names_in_commands_exist():
    for own in COMMANDS:
        for name, _, values in (word.partition("=") for word in own):
            for value in values.split(","):
                assert value in NAMES.get(name, {value}), own


@pytest.mark.parametrize("flag", ["--nosuch=1", "--precision=nosuch", "--seed=x"])
def test_a_wrong_flag_would_be_seen(flag, parse):
    assert parse(str(ROOT / "scripts" / "train.py"), flag).returncode != 0


def test_make_has_the_targets():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in DOCS:
        text = page.read_text()
        shown = [*inline_code(text), *"\n".join(blocks(text, "sh")).splitlines()]
        for line in shown:
            if made := re.match(r"make ([\w-]+)", line):
                assert made[1] in targets, (page.name, line)


@pytest.fixture(scope="module")
def flags_there(parse) -> set[str]:
    """The flags of all scripts and benchmarks, and those of XLA that we name."""
    paths = [p for f in ("scripts", "benchmarks") for p in (ROOT / f).glob("[a-z]*.py")]
    scripts = [str(p) for p in paths if "__main__" in p.read_text()]
    ours = {flag for script in scripts for flag in parse(script).stdout.split()}
    return ours | {FLAG.match(flag)[1] for flag in REPEATING}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_flags_exist(page, flags_there):
    named = {f for code in inline_code(page.read_text()) for f in FLAG.findall(code)}
    assert {f for f in named if not {f, f.removeprefix("no")} & flags_there} == set()


# A translated tone: "a line an epoch" is "one line per epoch".
EACH = "epoch|example|layer|core|seed|device|second|process|step|image|update|class"
STUMBLES = [
    rf"\ban? \w+ an? (?:{EACH})\b",
    rf"\b(?:examples|seconds|updates|lines|keys|MACs|GMACs|ms|s|MB) an? (?:{EACH})\b",
    r"\b(?:is|are|was) told\b",
    r"\btells? (?:of|so)\b",
    r"\bwhoever\b",
    r"\bmany an? \b",
    r"\bby turns\b",
    r"\bmended\b",
    r"\bput right\b",
    r"\bis of (?:a|an|the) \w+ that\b",
    r"\bwhat came of\b",
    r"\bgoes on where\b",
    r"\bswitched in\b",
    r"\bthe rows do\b",
    r"\bwithout rows\b",
    r"\bin (?:or out of )?band\b",
    r"\bthe whole (?:gradient|data set|report)\b",
]


def stumbles(text: str) -> list[str]:
    words = " ".join(CODE.sub("code", prose(text)).split())
    found = [re.finditer(stumble, words, re.IGNORECASE) for stumble in STUMBLES]
    return [match[0] for each in found for match in each]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_it_reads_as_english(page):
    assert stumbles(page.read_text()) == []


def test_a_stumble_would_be_seen():
    text = "It writes a line an epoch; 12 examples a second.\nMany a\nfault is told."
    assert len(stumbles(text)) == 4
