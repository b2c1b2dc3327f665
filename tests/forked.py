"""Scripts in processes forked from one that has imported the libraries already.

    python tests/forked.py

Reads a line of JSON for each call, forks, and runs the script there as `__main__`; then
answers with its exit status. Each call has a process of its own, as from a shell, but
without the seconds that the imports take.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_SECONDS = 300


class Forks:
    """The process that is forked, and calls of scripts in its children."""

    def __init__(self) -> None:
        """Start it; it imports while the first call waits."""
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, script: Path, *flags: str, cwd: Path, **environment: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run a script to its end, with variables changed or, where None, left out."""
        with tempfile.TemporaryDirectory() as folder:
            told = [os.path.join(folder, name) for name in ("stdout", "stderr")]
            argv = [str(script), *map(str, flags)]
            call = {"argv": argv, "cwd": str(cwd), "told": told, "env": environment}
            print(json.dumps(call), file=self._process.stdin, flush=True)
            status = int(self._process.stdout.readline())
            out, err = (Path(path).read_text() for path in told)
        return subprocess.CompletedProcess(argv, status, out, err)

    def close(self) -> None:
        """End the process that is forked."""
        self._process.communicate()


def run_script(call: dict) -> None:
    """Run the script of a call in this process, as Python would from a shell."""
    signal.alarm(LIMIT_SECONDS)
    for path, stream in zip(call["told"], (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(call["cwd"])
    for name, value in call["env"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    sys.argv = call["argv"]
    folder, name = os.path.split(sys.argv[0])
    if name == "__main__.py":  # as by python -m
        sys.path[0] = os.path.dirname(folder)
        runpy.run_module(os.path.basename(folder), run_name="__main__")
    else:
        sys.path[0] = folder
        runpy.run_path(sys.argv[0], run_name="__main__")


def draw_something() -> None:
    """Let Matplotlib find its fonts once, and not in each child."""
    from cnnjax.telling.plots import draw_curves

    line = {"epoch": 1, "train_loss": 1.0, "test_loss": 1.0}
    draw_curves([{**line, "train_accuracy": 0.5, "test_accuracy": 0.5}], title="fonts")


def main() -> None:
    """Import what the scripts do; no device yet, whose threads would not be forked."""
    import matplotlib.pyplot  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import tqdm  # noqa: F401
    from absl import app, flags  # noqa: F401

    import cnnjax.public

    for module in pkgutil.walk_packages(cnnjax.__path__, "cnnjax."):
        if module.name != "cnnjax.__main__":
            importlib.import_module(module.name)
    draw_something()
    gc.freeze()  # else each child would spend its end on taking all of this apart
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run_script(json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
