"""Run one contender in its own process: build it, then run it on request.

    python benchmarks/contender.py '{"module": ..., "task": ..., "options": ...}' FOLDER

Reads one JSON object per line from stdin ({"do": "run", "steps": 100}), and answers
each with one. A contender runs only while it handles a request; otherwise it waits for
the next line. Output of libraries goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import case as cases


def main() -> None:
    """Build the contender, say that it is ready, and handle requests."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**content: Any) -> None:
        print(json.dumps(content), file=answers, flush=True)

    entry = json.loads(sys.argv[1])
    case = cases.read_case(Path(sys.argv[2]))
    start = time.perf_counter()
    module = importlib.import_module(f"peers.{entry['module']}")
    contender = module.make(case, entry["task"], **entry["options"])
    answer(
        facts=contender.facts,
        build_seconds=time.perf_counter() - start,
        trains=contender.train is not None,
    )
    for line in sys.stdin:
        asked = json.loads(line)
        match asked["do"]:
            case "run":
                start = time.perf_counter()
                contender.run(asked["steps"])
                answer(seconds=time.perf_counter() - start)
            case "result":
                cases.save_tree(Path(asked["to"]), contender.result())
                answer()
            case "train":
                answer(epochs=contender.train(asked["epochs"], asked["seed"]))
            case "memory":
                answer(peak_bytes=peak_bytes())


def peak_bytes() -> int:
    """Return the peak memory of this process.

    On Linux it is not `ru_maxrss`, which a new process inherits from its parent.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
