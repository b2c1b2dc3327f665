"""Put small faults into the library, one at a time, and see which test catches each.

    python tests/mutate.py [NAME ...] [--only_likely] [--timeout=3600] [--workers=1]

The faults are those of `mutants.py`; without names, all of them. Each is made in a copy
of the tree, in a temporary folder that is removed again: the working tree is never
edited. There its likely tests run first and, where these pass, the rest of what
`make test` runs. One line for each mutant says which test caught it, or that it LIVES.

The right tree goes first, through the same likely tests: where these fail by
themselves, they would "catch" everything. A catch by one of the rest is believed only
where that test passes on the right tree. A mutant whose text is no longer there
exactly once, or whose tests cannot be collected, or do not end in time, is an ERROR.
The exit status is 0 only if every mutant is caught.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "runs")
# It asks that every mutant be found in the tree, so it would "catch" each of them.
OWN_TEST = "tests/test_mutate.py"


class Verdict(NamedTuple):
    """What became of one mutant."""

    status: Literal["caught", "LIVES", "ERROR"]
    name: str
    detail: str  # the test that caught it, or what there is to say

    def __str__(self) -> str:
        """Return the line that is printed."""
        return f"{self.status:6}  {self.name}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """Where mutants are tried: the right tree, and what bounds each of them."""

    tree: Path
    scratch: Path  # copies, logs and compiled programs; gone at the end
    timeout: float  # seconds for all the tests of one mutant
    only_likely: bool
    stop: threading.Event  # ends whatever runs
    # Of the rest: by name, whether a test passes on the right tree.
    passes: dict[str, bool] = field(default_factory=dict)

    def judge(self, mutant: Mutant) -> Verdict:
        """Make the mutant in a copy of the tree and run the tests there."""
        text = (self.tree / mutant.file).read_text()
        if (count := text.count(mutant.old)) != 1:
            what = f"{mutant.file} has its text {count} times, expected once"
            return Verdict("ERROR", mutant.name, what)
        with self._copy() as copy:
            (copy / mutant.file).write_text(text.replace(mutant.old, mutant.new))
            rest = [f"--ignore={path}" for path in (*mutant.likely, OWN_TEST)]
            ends = time.monotonic() + self.timeout
            status, said = self._test(copy, mutant.likely, ends=ends)
            while status == 0 and not self.only_likely:
                status, said = self._test(copy, rest, ends=ends)
                if status == 0:
                    break
                found = _told(mutant.name, status, said)
                if found.status == "caught" and not self._passes(found.detail):
                    rest.append(f"--deselect={found.detail}")
                    status = 0  # such a test says nothing: go on without it
        if status != 0:
            return _told(mutant.name, status, said)
        return Verdict("LIVES", mutant.name, mutant.what)

    def complaint(self, likely: Iterable[str]) -> str | None:
        """Run tests on the right tree; return what they object to, None for nothing."""
        with self._copy() as copy:
            ends = time.monotonic() + self.timeout
            status, said = self._test(copy, sorted(set(likely)), ends=ends)
        return None if status == 0 else _told("the right tree", status, said).detail

    def _passes(self, test: str) -> bool:
        """Return whether a test passes on the right tree, where it is run once."""
        if test not in self.passes:
            self.passes[test] = self.complaint([test]) is None
        return self.passes[test]

    @contextlib.contextmanager
    def _copy(self):
        with tempfile.TemporaryDirectory(
            dir=self.scratch, ignore_cleanup_errors=True
        ) as folder:
            copy = Path(folder) / "tree"
            shutil.copytree(self.tree, copy, ignore=NOT_COPIED)
            yield copy

    def _test(
        self, copy: Path, selection: Sequence[str], *, ends: float
    ) -> tuple[int | None, str]:
        """Run pytest on a copy; return its exit status, None if stopped, and output."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow"]
        command += ["-p", "no:cacheprovider", *selection]
        own = {
            "PYTHONPATH": str(copy),  # before the editable install
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(copy.parent),
            "JAX_COMPILATION_CACHE_DIR": str(self.scratch / "compiled"),
        }
        log = copy.parent / "log"
        with log.open("w") as file:
            running = subprocess.Popen(
                command,
                cwd=copy,
                env={**os.environ, **own},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while running.poll() is None and not self.stop.wait(0.1):
                    if time.monotonic() > ends:
                        break
            finally:
                status = running.poll()
                with contextlib.suppress(ProcessLookupError):  # and what it started
                    os.killpg(running.pid, signal.SIGKILL)
                running.wait()
        return status, log.read_text()


def _told(name: str, status: int | None, said: str) -> Verdict:
    """Read what pytest said where not all passed: a failed test, or no verdict."""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - |$)", said, re.MULTILINE)
    if status == 1 and failed:
        return Verdict("caught", name, failed[1])
    if status is None:
        return Verdict("ERROR", name, "the tests did not end in time")
    said = "\n".join(re.findall(r"^ERROR .+", said, re.MULTILINE)) or said
    last = said.strip().splitlines()[-1:] or ["nothing"]
    return Verdict("ERROR", name, f"pytest ended with {status}: {last[0]}")


def try_all(mutants: Sequence[Mutant], lab: Laboratory, *, workers: int) -> int:
    """Print a verdict for each mutant, as they come; return the exit status."""
    likely = [path for mutant in mutants for path in mutant.likely]
    if (complaint := lab.complaint(likely)) is not None:
        print(f"ERROR   the tests fail on the right tree: {complaint}", flush=True)
        return 1
    verdicts = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for done in as_completed([pool.submit(lab.judge, m) for m in mutants]):
                verdicts.append(done.result())
                print(verdicts[-1], flush=True)
        except BaseException:
            lab.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    caught = sum(verdict.status == "caught" for verdict in verdicts)
    print(f"{caught} of {len(mutants)} mutants are caught")
    return 0 if caught == len(mutants) else 1


def main() -> int:
    """Read the command line and try what it asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="mutants to try; none: all")
    parser.add_argument(
        "--only_likely", action="store_true", help="leave the rest of the tests out"
    )
    parser.add_argument(
        "--timeout", type=float, default=3600, help="seconds for one mutant"
    )
    parser.add_argument("--workers", type=int, default=1, help="mutants at a time")
    asked = parser.parse_args()
    known = {mutant.name: mutant for mutant in MUTANTS}
    for name in asked.names:
        if name not in known:
            parser.error(f"unknown mutant {name!r}; tests/mutants.py has their names")
    mutants = [known[name] for name in asked.names] or list(MUTANTS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="cnnjax-mutants-") as scratch:
        lab = Laboratory(
            tree=ROOT,
            scratch=Path(scratch),
            timeout=asked.timeout,
            only_likely=asked.only_likely,
            stop=threading.Event(),
        )
        return try_all(mutants, lab, workers=asked.workers)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
