"""Import moved modules under their old names, with a warning, until version 0.2."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# {room: the modules in it that used to be in cnnjax itself}
ROOMS = {
    "base": "arguments clock errors settings trees",
    "devices": "partitioning",
    "experiments": "ensembles matching networks overrides recipes runs",
    "gradients": "factors microbatches padding reductions",
    "laws": "comparison equivalence law majorant programs references",
    "measuring": "advice timing",
    "models": "contract initializers layers losses stack",
    "results": "environment fields outcomes workdir",
    "statistics": "effects intervals mcnemar permutations",
    "studies": "published reporting reproduction",
    "telling": "plots text",
    "training": "epochs evaluation optimizers records updates",
}
MOVED = {
    f"cnnjax.{name}": f"cnnjax.{room}.{name}"
    for room, names in ROOMS.items()
    for name in names.split()
}
MOVED |= {
    "cnnjax.parallel": "cnnjax.devices",
    "cnnjax.rows": "cnnjax.gradients.per_example",
}


class Forwarding(MetaPathFinder, Loader):
    """Find a module under its old name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
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


def forward() -> None:
    """Register the finder of old names, after all other finders."""
    if not any(isinstance(finder, Forwarding) for finder in sys.meta_path):
        sys.meta_path.append(Forwarding())
