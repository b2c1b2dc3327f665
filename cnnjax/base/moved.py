"""Import moved modules under their old names, with a warning, until version 0.2."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# {room: the modules in it that used to be in cnnjax itself}
ROOMS = {
    "base": "arguments clock errors settings trees",
    "devices": "partitioning",
    "experiments": "ensembles matching networks overrides recipes runs",
    "gradients": "factors microbatches padding reductions",
    "laws": "comparison equivalence law majorant programs references",
    "studies.measuring": "advice timing",
    "models": "contract initializers layers losses stack",
    "results": "environment fields outcomes workdir",
    "statistics": "effects intervals mcnemar permutations",
    "studies": "published reporting reproduction",
    "telling": "plots text",
    "training": "epochs evaluation optimizers records updates",
}
# {room: the room that it lies in now}, and the modules in it
MOVED_ROOMS = {"checkpoints": "results", "exports": "loaded", "measuring": "studies"}
THEIR_MODULES = {
    "checkpoints": "arrays keeper manifest policy snapshot store",
    "exports": "checked numpy_form onnx_form stablehlo",
    "measuring": "advice advice_cache advice_text candidates timing",
}
MOVED = {
    f"cnnjax.{name}": f"cnnjax.{room}.{name}"
    for room, names in ROOMS.items()
    for name in names.split()
}
MOVED |= {
    f"cnnjax.{room}": f"cnnjax.{within}.{room}" for room, within in MOVED_ROOMS.items()
}
MOVED |= {
    f"cnnjax.{room}.{name}": f"cnnjax.{MOVED_ROOMS[room]}.{room}.{name}"
    for room, names in THEIR_MODULES.items()
    for name in names.split()
}
MOVED |= {
    "cnnjax.parallel": "cnnjax.devices",
    "cnnjax.rows": "cnnjax.gradients.per_example",
}

# module: what lay in it under another name, or lies in another module now.
RENAMED = {
    "cnnjax.gradients": {
        "whole": "cnnjax.gradients.shares.value_and_grad_of",
        "with_each": "cnnjax.gradients.shares.with_per_example",
    },
    "cnnjax.gradients.shares": {
        "whole": "cnnjax.gradients.shares.value_and_grad_of",
        "with_each": "cnnjax.gradients.shares.with_per_example",
    },
    "cnnjax.gradients.per_example": {
        "rows_share": "cnnjax.gradients.per_example.per_example_share",
    },
    "cnnjax.gradients.factors": {
        "Rows": "cnnjax.gradients.factors.LayerGradients",
        "rows_of": "cnnjax.gradients.factors.layer_gradients",
        "mean_share": "cnnjax.gradients.factored.mean_share",
        "scaled_share": "cnnjax.gradients.factored.scaled_share",
        "full_share": "cnnjax.gradients.factored.full_share",
    },
    "cnnjax.experiments": {
        "with_faults": "cnnjax.faults.switch.switch_in",
        "setting_of": "cnnjax.faults.needs.setting_of",
    },
    "cnnjax.experiments.experiment": {
        "with_faults": "cnnjax.faults.switch.switch_in",
        "setting_of": "cnnjax.faults.needs.setting_of",
    },
    "cnnjax.experiments.runs": {
        "predict": "cnnjax.experiments.predictions.predict",
        "predict_test": "cnnjax.experiments.predictions.predict_test",
    },
    "cnnjax.training.optimizers": {
        name: f"cnnjax.training.schedules.{name}"
        for name in ("Constant", "Cosine", "CosineUnit", "SCHEDULES")
    },
}


class Forwarding(MetaPathFinder, Loader):
    """Find a module under its old name."""

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec whose loader is this object, if the module has moved."""
        return ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module under its new name."""
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is {new} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec; its code has run already."""
        module.__spec__ = self._spec


class Renaming(MetaPathFinder):
    """Give a module, as it is imported, a `__getattr__` that finds old names."""

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders find, with a loader that does so."""
        if name not in RENAMED:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                vars(module)["__getattr__"] = getter(name)

            vars(spec.loader)["exec_module"] = exec_module
        return spec


def forward() -> None:
    """Register both finders before all others.

    In a room that has moved, those would find the modules a second time.
    """
    if not any(isinstance(finder, Forwarding) for finder in sys.meta_path):
        sys.meta_path[:0] = [Renaming(), Forwarding()]


def getter(module: str) -> Callable[[str], Any]:
    """Build the `__getattr__` of a module, which finds old names."""
    renamed = RENAMED[module]

    def __getattr__(old: str) -> Any:  # noqa: N807
        if old not in renamed:
            raise AttributeError(f"module {module!r} has no attribute {old!r}")
        new = renamed[old]
        told = f"{module}.{old} is {new} now"
        warnings.warn(told, DeprecationWarning, stacklevel=2)
        home, _, name = new.rpartition(".")
        return getattr(importlib.import_module(home), name)

    return __getattr__
