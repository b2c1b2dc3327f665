"""Those who look on while a run is trained: they cannot change it, and cannot end it.

A watcher may have any of these methods:

    start(config, step)  before training goes on after so many updates
    state(at)            after every call of the compiled program
    epoch(line, params)  with a line of metrics.jsonl; params: None of several seeds
    end(result)
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from cnnjax.base.errors import InputError, shown
from cnnjax.base.signals import StoppedError
from cnnjax.results.folders import named_in_utf8
from cnnjax.telling.layout import wrap
from cnnjax.training.loop import LoopState
from cnnjax.types import Params

Report = Callable[[str, Mapping[str, Any]], object]  # (event, values)


class Watchers:
    """Several watchers; one that raises an error is named, and not asked again."""

    def __init__(
        self, watchers: Sequence[Any] = (), *, say: Callable[[str], None] = print
    ) -> None:
        """Ask nobody yet; `say` prints a line."""
        self._watchers, self.say = list(watchers), say

    def telling(self, say: Callable[[str], None]) -> Watchers:
        """Return the same watchers, who are told of by `say`."""
        return Watchers(self._watchers, say=say)

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Tell that training begins, or goes on after so many updates."""
        self._tell("start", config, step)

    def state(self, at: LoopState) -> None:
        """Show the state after a call; the next call deletes its arrays."""
        self._tell("state", at)

    def epoch(self, line: Mapping[str, Any], params: Params | None) -> None:
        """Tell what was noted of an epoch, and show the parameters."""
        self._tell("epoch", line, params)

    def end(self, result: Mapping[str, Any]) -> None:
        """Tell how training ended."""
        self._tell("end", result)

    def _tell(self, event: str, *values: Any) -> None:
        for watcher in list(self._watchers):
            if (method := getattr(watcher, event, None)) is None:
                continue
            try:
                if told := method(*values):
                    self.say(wrap(told))
            except (StoppedError, KeyboardInterrupt):
                raise
            except Exception as error:
                self._watchers.remove(watcher)
                said = " ".join(f"{type(error).__name__}: {error}".split())
                line = f"warning: {watcher} failed and is not asked again: {said}"
                self.say(wrap(line))


NOBODY = Watchers()


class Called:
    """A function of the user: it is given an event and its values."""

    def __init__(self, name: str, report: Report) -> None:
        """Call it `name` in messages."""
        self._name, self._report = name, report

    def __str__(self) -> str:
        return f"--callback={self._name}"

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Report "start", with config.json and the number of updates made so far."""
        self._report("start", {**config, "step": step})

    def epoch(self, line: Mapping[str, Any], params: Params | None) -> None:
        """Report "epoch", with the line of metrics.jsonl."""
        self._report("epoch", dict(line))

    def end(self, result: Mapping[str, Any]) -> None:
        """Report "end", with the metrics of the final test."""
        self._report("end", dict(result))


def called(name: str) -> Called:
    """Import the function of "module:function", from the present folder, too.

    Raises:
        InputError: another form, or there is no such module or function.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise InputError(f"expected --callback=MODULE:FUNCTION, got {shown(name)}")
    sys.path.insert(0, os.getcwd())
    try:
        report = getattr(importlib.import_module(module), function)
    except Exception as error:  # a module of the user may raise anything
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"--callback={name} cannot be imported: {said}") from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(report):
        raise InputError(f"expected a function for --callback, got {shown(report)}")
    return Called(name, report)


class Profile:
    """A trace of some updates by JAX's profiler, once the program is warm."""

    def __init__(self, folder: Path, shown: str, updates: int) -> None:
        """Trace at least so many updates, into a folder that messages call `shown`."""
        self._folder, self._shown, self._updates = folder, shown, updates
        self._begun: int | None = None
        self._done = False
        self._held = contextlib.ExitStack()

    def __str__(self) -> str:
        return "--profile"

    def state(self, at: LoopState) -> str | None:
        """Begin after the first call; end once enough updates are made."""
        if self._done:
            return None
        step = int(at.state.step)
        if self._begun is None:
            path = self._held.enter_context(named_in_utf8(self._folder))
            jax.profiler.start_trace(path, create_perfetto_trace=True)
            self._begun = step
        elif step - self._begun >= self._updates:
            return self._end(step)
        return None

    def epoch(self, line: Mapping[str, Any], params: Params | None) -> None:
        """Remember the number of updates, should these have been the last."""
        self._last = line["step"]

    def end(self, result: Mapping[str, Any]) -> str | None:
        """End the trace with the training."""
        if self._begun is None or self._done:
            return None
        return self._end(self._last)

    def _end(self, step: int) -> str:
        with self._held:
            jax.profiler.stop_trace()
        self._done = True
        return (
            f"profile of {step - (self._begun or 0)} updates in {self._shown}; open "
            "its perfetto_trace.json.gz at ui.perfetto.dev, or it in TensorBoard"
        )
