"""Let the benchmarks import what the scripts share: import this first."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "scripts"))

import _script  # noqa: F401  # before what imports JAX
