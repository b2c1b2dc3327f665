"""The JSON files of a prepared TFDS dataset, checked before TFDS reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cnnjax.base.errors import InputError, shown
from cnnjax.data.files import read_file
from cnnjax.data.pixels import MOST_CLASSES

PLAIN = re.compile(r"[\w{}+-][\w{}.+-]{0,99}", re.ASCII)  # no folder, and not ".."
MOST_BYTES, MOST_LEVELS = 2**24, 50  # of a file; of nested brackets
# The features that are read, and those of other columns that may be beside them.
IN_TFDS = "tensorflow_datasets.core.features."
DICT = f"{IN_TFDS}features_dict.FeaturesDict"
LEAVES = (
    *("image_feature.Image", "class_label_feature.ClassLabel", "text_feature.Text"),
    *("scalar.Scalar", "tensor_feature.Tensor"),
)
KINDS = (DICT, *(f"{IN_TFDS}{leaf}" for leaf in LEAVES))
# The keys of a feature as TFDS writes it now, and as it once did.
NOW = ("pythonClassName", "description", "valueRange")
OF_LEAVES = ("image", "classLabel", "text", "tensor")
ONCE = ("type", "content", "proto_cls")
MESSAGES = tuple(
    f"tensorflow_datasets.{name}"
    for name in (
        *("FeaturesDict", "ImageFeature", "ClassLabel", "TextFeature"),
        "TensorFeature",
    )
)
OF_SPLITS = (
    *("name", "numShards", "shardLengths", "numBytes", "statistics"),
    "filepathTemplate",
)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        InputError: it cannot be read, is damaged, or is too large or too deep.
    """
    file = read_file(path, sizes=lambda _: range(MOST_BYTES + 1))
    if file.more or file.size > MOST_BYTES:
        raise damaged(path, f"at most {MOST_BYTES} bytes", file.counted)
    try:
        text = file.content.decode()
    except UnicodeDecodeError as error:
        raise damaged(path, "text in UTF-8", f"other bytes ({error})") from error
    return _parse(path, text)


def check_features(path: Path) -> dict[str, int]:
    """Check that the features in a file are TFDS's own, with plain names.

    Returns:
        The number of classes of each feature that is a class, where it is given.

    Raises:
        InputError: they are others, or the file cannot be read or is damaged.
    """
    features = read_json(path)
    _check_feature(path, features)
    inner = features.get("featuresDict", {}).get("features", {})
    classes = {name: of.get("classLabel") or {} for name, of in inner.items()}
    counts = {name: of.get("numClasses") for name, of in classes.items()}
    return {name: int(count) for name, count in counts.items() if count is not None}


def check_info(path: Path, *, num_bytes: int) -> None:
    """Check that a dataset's splits are of its own files, of `num_bytes` in all.

    Raises:
        InputError: names that lead elsewhere; more examples than bytes; features, which
            are only read from their own file; or the file cannot be read or is damaged.
    """
    info = read_json(path)
    if unknown := [key for key in info if key == "features" or "_" in key]:
        raise damaged(path, "only the keys that TFDS writes", shown(unknown[0]))
    name, splits = info.get("name"), info.get("splits", [])
    if not isinstance(name, str) or not PLAIN.fullmatch(name):
        raise damaged(path, "a plain name", shown(name))
    if not isinstance(splits, list) or not all(isinstance(s, dict) for s in splits):
        raise damaged(path, "a list of splits", shown(splits)[:60])
    num_examples = 0
    for split in splits:
        if unknown := [key for key in split if key not in OF_SPLITS]:
            raise damaged(path, f"splits of {', '.join(OF_SPLITS)}", shown(unknown[0]))
        for key in ("name", "filepathTemplate"):
            value = split.get(key, "plain")
            if not isinstance(value, str) or not PLAIN.fullmatch(value):
                raise damaged(path, f"the {key} of a split to be plain", shown(value))
        lengths = split.get("shardLengths", [])
        if not isinstance(lengths, list):
            raise damaged(path, "a list of shardLengths", shown(lengths)[:60])
        num_examples += sum(_count(path, length, "examples") for length in lengths)
    if num_examples > num_bytes:
        most = f"no more examples than the folder has bytes ({num_bytes})"
        raise damaged(path, most, num_examples)


def damaged(path: Path, expected: str, got: object) -> InputError:
    """Build the error for a damaged file of a prepared dataset."""
    return InputError(f"{path}: expected {expected}, got {got}; prepare the set again")


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise damaged(path, "few nested brackets", "too many") from error
    except ValueError as error:
        raise damaged(path, "JSON", f"other text ({error})") from error
    level = [value]
    for _ in range(MOST_LEVELS):
        lists = [v for v in level if isinstance(v, list)]
        lists += [list(v.values()) for v in level if isinstance(v, dict)]
        level = [v for inner in lists for v in inner]
    if level or not isinstance(value, dict):
        raise damaged(path, f"an object of {MOST_LEVELS} levels", text[:40].encode())
    return value


def _count(path: Path, value: Any, what: str) -> int:
    # TFDS writes 64-bit numbers as text.
    if not re.fullmatch(r"\d{1,15}", str(value), re.ASCII):
        raise damaged(path, f"a number of {what}", shown(value)[:60])
    return int(str(value))


def _check_feature(path: Path, feature: Any) -> None:
    if not isinstance(feature, dict):
        raise damaged(path, "a feature", shown(feature)[:60])
    once = "type" in feature  # up to version 4.6 of TFDS
    kind = feature.get("type" if once else "pythonClassName")
    if kind not in KINDS:
        raise InputError(
            f"{path}: expected features of TFDS itself (FeaturesDict, Image, "
            f"ClassLabel, Text, Scalar, Tensor), got {shown(kind)}, which is not "
            "imported; prepare the set with those"
        )
    of_kind = ("featuresDict",) if kind == DICT else OF_LEAVES
    known = ONCE if once else (*NOW, *of_kind)
    if unknown := [key for key in feature if key not in known]:
        raise damaged(path, f"{', '.join(known)} in a feature", shown(unknown[0]))
    if feature.get("proto_cls") not in (None, *MESSAGES):
        raise damaged(path, ", ".join(MESSAGES), shown(feature["proto_cls"]))
    content = feature.get("content") if once else feature.get("featuresDict", {})
    if isinstance(content, str):
        content = _parse(path, content)
    if not isinstance(content, dict):
        raise damaged(path, "the content of a feature", shown(content)[:60])
    if kind != DICT:
        _check_leaf(path, content if once else feature.get("classLabel"))
        return
    inner = content if once and "proto_cls" not in feature else content.get("features")
    if not isinstance(inner, dict):
        raise damaged(path, "a dictionary of features", shown(inner)[:60])
    for name, of in inner.items():
        if not PLAIN.fullmatch(name):
            raise damaged(path, "a plain name of a feature", shown(name))
        _check_feature(path, of)


def _check_leaf(path: Path, content: Any) -> None:
    # Classes without names are given numbers for names.
    if content is None:
        return
    if not isinstance(content, dict):
        raise damaged(path, "an object of a class", shown(content)[:60])
    for key in ("numClasses", "num_classes"):
        if key in content and _count(path, content[key], "classes") > MOST_CLASSES:
            raise damaged(path, f"at most {MOST_CLASSES} classes", content[key])
