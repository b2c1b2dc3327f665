"""The house: imports point one way, rooms are small, what is public is explained."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import cnnjax
from cnnjax import InputError

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(cnnjax.__path__, "cnnjax.")
)

PICTURE = re.compile(r"^cnnjax/\n((?:  .*\n)+)", re.MULTILINE)
NO_ROOMS = {"__init__", "py.typed"}


def pictured() -> list[str]:
    """Return the rooms as README draws them, from the ground up."""
    (block,) = PICTURE.findall((ROOT / "README.md").read_text())
    return [line.split()[0].removesuffix("/") for line in block.splitlines()]


FLOORS = [name.removesuffix(".py") for name in pictured()]


def room(module: str) -> str:
    return module.split(".")[1]


def imports_of(path: Path) -> set[str]:
    """Return the dotted names that a file imports, wherever in it they stand."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def file_of(module: str) -> Path:
    return Path(importlib.import_module(module).__file__)


def rooms_imported(path: Path) -> set[str]:
    return {room(n) for n in imports_of(path) if n.startswith("cnnjax.")}


def offences(module: str, imported: set[str]) -> list[str]:
    here = room(module)
    return [
        f"{module} imports {name}"
        for name in sorted(imported - {here})
        if FLOORS.index(name) >= FLOORS.index(here)
    ]


def test_the_picture_is_what_ls_says():
    there = {p.name for p in (ROOT / "cnnjax").iterdir() if p.name != "__pycache__"}
    assert set(pictured()) == there
    assert len(pictured()) == len(there) <= 20
    assert {room(module) for module in MODULES} == set(FLOORS) - NO_ROOMS


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    assert offences(module, rooms_imported(file_of(module))) == []


def test_an_import_the_wrong_way_would_be_caught(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from cnnjax.strategies import make_strategy\n")
    assert offences("cnnjax.training.step", rooms_imported(wrong)) == [
        "cnnjax.training.step imports strategies"
    ]


@pytest.mark.parametrize("module", MODULES)
def test_the_library_reads_no_flags(module):
    assert not {n for n in imports_of(file_of(module)) if n.split(".")[0] == "absl"}


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_small(module):
    assert len(file_of(module).read_text().splitlines()) <= 220


NAMED = re.compile(
    r"""["'](?:eager|serial|jit|vmap|factored|sharded|shard_map|pmap)\w*["']"""
    r"""\s+(?:not\s+)?in\b|in DIVIDED|softmax_cross_entropy["']"""
)
# Tables, recipes and published data: where names are given, and nothing asks for one.
GIVES_NAMES = ("models/losses.py", "experiments/recipes.py", "studies/published/")


@pytest.mark.parametrize("module", MODULES)
def test_nothing_asks_for_a_strategy_or_a_loss_by_its_name(module):
    path = file_of(module)
    if not path.relative_to(ROOT / "cnnjax").as_posix().startswith(GIVES_NAMES):
        assert NAMED.findall(path.read_text()) == []


SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


def test_scripts_are_thin_and_have_four_helpers_at_most():
    """Flags, what they ask for, what wraps them all, what moves on a terminal."""
    helpers = [path for path in SCRIPTS if path.name.startswith("_")]
    assert [path.stem for path in helpers] == [
        "_asked",
        "_flags",
        "_progress",
        "_script",
    ]
    lengths = {
        path.name: len(path.read_text().splitlines())
        for path in SCRIPTS
        if path not in helpers
    }
    assert {name: length for name, length in lengths.items() if length > 120} == {}


REFUSALS = ("raise InputError", "raise unknown_name", "expect(", "settle(self")


def public_callables(module: str):
    """Yield every public function, method and class of a module, by name."""
    for name, value in vars(importlib.import_module(module)).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module:
            continue
        if inspect.isroutine(value):
            yield f"{module}.{name}", value
        if inspect.isclass(value):
            yield f"{module}.{name}", value
            for attribute, member in vars(value).items():
                ours = getattr(member, "__module__", None) == module
                public = not attribute.startswith("_") or "init" in attribute
                if inspect.isfunction(member) and public and ours:
                    yield f"{module}.{name}.{attribute}", member


def lacking(name: str, value) -> str | None:
    """Say what the docstring of a public name lacks; None: nothing."""
    if inspect.isclass(value):
        return None if value.__doc__ else f"{name}: a docstring"
    if not value.__doc__ and name.endswith("__init__"):
        return None  # a generated one
    first = inspect.getdoc(value).split("\n\n")[0].strip()
    if not first.endswith("."):
        return f"{name}: a first sentence"
    raises = any(refusal in inspect.getsource(value) for refusal in REFUSALS)
    told = "Raise" in value.__doc__ or name.startswith("cnnjax.base.errors.")
    return f"{name} raises InputError and does not say so" if raises > told else None


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_tell_what_is_raised(module):
    found = [lacking(name, value) for name, value in public_callables(module)]
    assert [told for told in found if told] == []


def test_a_docstring_that_lacks_something_is_caught():
    def silent(x):
        """Return x."""
        raise InputError("no")

    def endless():
        """Return nothing"""

    class Bare:
        pass

    assert (
        lacking("m.silent", silent) == "m.silent raises InputError and does not say so"
    )
    assert lacking("m.endless", endless) == "m.endless: a first sentence"
    assert lacking("m.Bare", Bare) == "m.Bare: a docstring"


def test_public_callables_are_many():
    """Mistake: a check of nothing."""
    assert sum(len(list(public_callables(module))) for module in MODULES) > 1000


def test_each_strategy_answers_four_questions():
    for name, row in cnnjax.STRATEGIES.items():
        for question in (
            "Where do the arrays live?",
            "Who takes the mean?",
            "What is communicated?",
            "When is it not valid?",
        ):
            assert question in row.told, name


def test_public_names_are_there():
    for name in cnnjax.__all__:
        assert hasattr(cnnjax, name)
