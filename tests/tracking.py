"""Functions that tests give to --callback: they write down what they are told."""

import json
from pathlib import Path


def report(event, values):
    with Path("told.jsonl").open("a") as file:
        file.write(json.dumps([event, values]) + "\n")


def fail(event, values):
    report(event, {})
    if event == "epoch":
        raise ValueError("no\nserver")


number = 3
