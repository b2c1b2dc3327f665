"""Old names of modules still work, and say where the module is now."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings

import pytest

import cnnjax
from cnnjax.base.moved import MOVED, RENAMED


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_moved_module_is_the_same_under_its_old_name(old, new):
    sys.modules.pop(old, None)
    parent = old.rpartition(".")[0]
    with warnings.catch_warnings():  # it has moved, too, and says so
        warnings.simplefilter("ignore")
        importlib.import_module(parent)
    with pytest.warns(DeprecationWarning, match=f"{old} is {new} now"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(new)
    assert found.__spec__.name == found.__name__ == new


def test_no_room_has_the_name_of_a_moved_module():
    rooms = {
        f"cnnjax.{module.name}" for module in pkgutil.iter_modules(cnnjax.__path__)
    }
    assert not rooms & MOVED.keys()


def test_what_never_was_there_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="cnnjax.nowhere"):
        importlib.import_module("cnnjax.nowhere")


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [(module, *names) for module in RENAMED for names in RENAMED[module].items()],
)
def test_a_renamed_function_is_found_under_its_old_name(module, old, new):
    home, _, name = new.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{module}.{old} is {new} now"):
        found = getattr(importlib.import_module(module), old)
    assert found is getattr(importlib.import_module(home), name)


def test_what_no_module_has_is_not_found():
    with pytest.raises(AttributeError, match="'cnnjax.gradients' has no attribute 'x'"):
        importlib.import_module("cnnjax.gradients").x  # noqa: B018
