"""The console command: `cnnjax train --epochs=3` runs scripts/train.py.

`python -m cnnjax` is the same. Nothing is imported here that imports JAX: a script
first looks at the environment, and listens to signals.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path
from typing import NoReturn

import cnnjax
from cnnjax.base import program
from cnnjax.base.errors import unknown_name
from cnnjax.base.printable import one_line

HERE = Path(__file__).parent
# {command: script}, in the order in which one needs them.
COMMANDS = {
    "train": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "page": "page",
    "export": "export",
    "runs": "runs",
    "compare": "compare_runs",
    "sweep": "sweep",
    "recipes": "recipes",
    "strategies": "compare_strategies",
    "reproduce": "reproduce",
    "launch": "launch_local",
    "prepare-tfds": "prepare_tfds",
}
HELP = ("help", "--help", "-h", "--helpshort")


def main() -> None:
    """Run the script of a command, with the rest of the arguments."""
    command, *rest = sys.argv[1:] or ["help"]
    if command in HELP and (not rest or rest[0] not in COMMANDS):
        print(help_text())
        return
    if command in HELP:  # cnnjax help train
        command, rest = rest[0], ["--help"]
    if command == "--version":
        print(f"cnnjax {cnnjax.__version__}")
        return
    if command not in COMMANDS:
        refuse(command)
    path = scripts() / f"{COMMANDS[command]}.py"
    program.call(command, COMMANDS)
    sys.argv = [str(path), *rest]
    runpy.run_path(str(path), run_name="__main__")


def refuse(command: str) -> NoReturn:
    """Say in one line that there is no such command, and exit with status 2."""
    error = unknown_name("command", command, COMMANDS)
    print(one_line(f"cnnjax: error: {error}"), file=sys.stderr)
    sys.exit(2)


def scripts() -> Path:
    """Return the folder of the scripts: in a wheel it is within the package."""
    inside = HERE / "scripts"
    return inside if inside.is_dir() else HERE.parent / "scripts"


def help_text() -> str:
    """Return the commands, each with the first line of its script's docstring."""
    lines = [f"  {name:<14}{_about(script)}" for name, script in COMMANDS.items()]
    head = "cnnjax COMMAND [FLAGS]; cnnjax COMMAND --help tells of its flags."
    return "\n".join([head, "", *lines])


def _about(script: str) -> str:
    source = (scripts() / f"{script}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
