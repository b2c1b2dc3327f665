"""Let the benchmarks import the scripts' shared modules: import this first."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "scripts"))

import _script  # noqa: F401  # before anything that imports JAX
