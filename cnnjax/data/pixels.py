"""Arrays of somebody's own images and classes, in the types that every data set has.

Nothing is guessed: pixels are 0 to 255, or these divided by 255, which is undone
exactly; anything else is refused.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, UInt8

from cnnjax.base.errors import InputError

CHANNELS = (1, 3, 4)
MOST_CLASSES = 1_000_000  # larger labels are refused: each class has a name in memory
ROUNDING = 1e-4  # of a pixel that was divided by 255 in float32, and multiplied again


def as_images(array: np.ndarray, *, where: str) -> UInt8[np.ndarray, "n h w c"]:
    """Return images as bytes, with an axis for the channels.

    Integers, and floats that are whole numbers, are pixels from 0 to 255. Floats from 0
    to 1 are pixels divided by 255, if every one of them is.

    Args:
        array: [images, height, width], or [images, height, width, channels].
        where: the file, for messages.

    Raises:
        InputError: another shape, or other numbers.
    """
    images = array[..., None] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[-1] not in CHANNELS or not _is_number(array):
        first = array.ndim == 4 and array.shape[1] in CHANNELS
        way_out = (
            "put the channels last: np.moveaxis(images, 1, -1)"
            if first
            else "write pixels 0 to 255 in that order"
        )
        raise InputError(
            f"{where}: expected images of unsigned bytes, images x height x width, "
            f"or these x 1, 3 or 4 channels, got {described(array)}; {way_out}"
        )
    if images.dtype.kind == "f":
        images = _whole(images, where=where)
    _check_range(images, 255, of=f"{where}: expected pixels")
    return images.astype(np.uint8, copy=False)


def as_classes(
    array: np.ndarray, *, where: str, way_out: str = ""
) -> Int32[np.ndarray, " n"]:
    """Return the class of each image: [images] or [images, 1] whole numbers from 0.

    Raises:
        InputError: another shape, or other numbers.
    """
    labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    is_whole = labels.dtype.kind != "f" or bool(np.all(labels == np.rint(labels)))
    if labels.ndim != 1 or not _is_number(labels) or not is_whole:
        raise InputError(
            f"{where}: expected labels as integers, one per image, got "
            f"{described(array)}; {way_out or 'write only the classes, as integers'}"
        )
    _check_range(labels, MOST_CLASSES - 1, of=f"{where}: expected labels")
    return labels.astype(np.int32)


def described(array: np.ndarray) -> str:
    """Say which type and shape an array has."""
    axes = f"{array.ndim} ax{'i' if array.ndim == 1 else 'e'}s"
    return f"{array.dtype.name} with {axes} ({' x '.join(map(str, array.shape))})"


def _is_number(array: np.ndarray) -> bool:
    is_number = array.dtype.kind in "biuf" and array.dtype.itemsize <= 8
    return is_number and array.size > 0


def _whole(images: np.ndarray, *, where: str) -> np.ndarray:
    """Return pixels that are held as floats, as whole numbers from 0 to 255."""
    low, high = float(images.min()), float(images.max())
    divided = 0 < high <= 1
    pixels = images.astype(np.float64) * (255.0 if divided else 1.0)
    rounding = max(ROUNDING, 255 * float(np.finfo(images.dtype).eps)) * divided
    if (
        low >= 0
        and high <= 255
        and np.all(np.abs(pixels - np.rint(pixels)) <= rounding)
    ):
        return np.rint(pixels).astype(np.uint8)
    raise InputError(
        f"{where}: expected pixels from 0 to 255, or these divided by 255, got "
        f"{images.dtype.name} from {low:g} to {high:g} that are neither; write pixels "
        "as bytes, before they are standardized"
    )


def _check_range(array: np.ndarray, largest: int, *, of: str) -> None:
    if array.dtype == np.uint8 and largest >= 255:
        return
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= largest):
        raise InputError(f"{of} from 0 to {largest}, got {low} to {high}")
