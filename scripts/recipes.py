"""List all recipes, and what was published of their five systems.

    python scripts/recipes.py --systems=A,C --figures

For each run it prints the command that trains it, on the data it was published on:
add --data_dir=DIR where the data is a file of yours, and --workdir=DIR to keep a run.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _script
from absl import flags

from cnnjax.base.errors import InputError
from cnnjax.experiments.recipes import RECIPES
from cnnjax.studies.published import SYSTEMS, get_system
from cnnjax.studies.reporting.listing import as_json, command_of, run_lines
from cnnjax.telling.layout import wrap

FLAGS = flags.FLAGS
flags.DEFINE_list("systems", list(SYSTEMS), "Systems whose runs to list.")
flags.DEFINE_bool("figures", False, "Print all figures, with ranges and remarks.")
flags.DEFINE_bool("json", False, "Print one JSON object per run, and no text.")


def main(args: list[str]) -> None:
    """Print the recipes and the runs that the flags ask for."""
    _script.refuse_arguments(args)
    systems = [get_system(letter) for letter in FLAGS.systems]
    if FLAGS.json and FLAGS.figures:
        raise InputError("expected --figures or --json, got both; JSON has all figures")
    if FLAGS.json:
        for system in systems:
            for run in system.runs:
                values = {
                    **as_json(system, run),
                    "command": shlex.join(command_of(run)),
                }
                print(json.dumps(values, allow_nan=False))
        return
    for recipe in RECIPES.values():
        print(wrap(f"{recipe.name:26} {recipe.summary}", indent=" " * 27))
    for system in systems:
        print(f"\n{wrap(f'{system.letter}. {system.title}', indent='   ')}")
        print(wrap(f"   {system.question}", indent=""))
        for run in system.runs:
            print("", *run_lines(run, all_figures=FLAGS.figures), sep="\n")


if __name__ == "__main__":
    _script.run(main)
