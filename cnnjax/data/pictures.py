"""A user's own pictures: read, and scaled to what a network takes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from cnnjax.base.errors import InputError, expect
from cnnjax.base.intake import read_bytes

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MOST_BYTES = 2**26  # of a file
MOST_PIXELS = 2**25  # of a picture


def read_picture(path: Path) -> UInt8[np.ndarray, "height width channels"]:
    """Read a picture in colour, upright, on white where it is transparent.

    Raises:
        InputError: it is missing, damaged, too large, or no picture that Pillow reads.
    """
    content = read_bytes(path, most=MOST_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise InputError(
                        f"{path}: expected at most {MOST_PIXELS:,} pixels, got "
                        f"{width} x {height}"
                    )
                picture = ImageOps.exif_transpose(picture).convert("RGBA")
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: expected a picture ({', '.join(FORMATS)}), got something else"
        ) from error
    except InputError:
        raise
    except Exception as error:  # whatever Pillow's readers raise
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"{path}: the picture is damaged: {said}") from error
    ground = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(ground, picture).convert("RGB"))


def find_pictures(path: Path) -> list[Path]:
    """Return a picture's path, or those of all pictures directly in a folder, by name.

    Raises:
        InputError: there is nothing, or no picture.
    """
    if not path.is_dir():
        return [path]
    try:
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    expect(f"pictures ({', '.join(SUFFIXES)}) in {path}", "none", bool(inside))
    return inside


def grey_of(
    picture: UInt8[np.ndarray, "height width channels"],
) -> Float[np.ndarray, "height width"]:
    """Return the brightness from 0 to 255, by the weights of ITU-R BT.601."""
    weights = {1: [1.0], 3: [0.299, 0.587, 0.114]}[picture.shape[-1]]
    return picture @ np.array(weights)


def as_image(
    picture: UInt8[np.ndarray, "height width channels"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "rows columns colours"]:
    """Cut the middle out of a picture, and scale it to [rows, columns, colours].

    Raises:
        InputError: the network does not take images of one colour or three.
    """
    check_shape(shape)
    rows, columns, colours = shape
    held = grey_of(picture).round().astype(np.uint8) if colours == 1 else picture
    fitted = ImageOps.fit(Image.fromarray(held), (columns, rows), Image.Resampling.BOX)
    return np.asarray(fitted).reshape(shape)


def check_shape(shape: tuple[int, ...]) -> None:
    """Check that a network takes images, by the shape of one.

    Raises:
        InputError: it does not.
    """
    fits = len(shape) == 3 and shape[-1] in (1, 3)
    expect("a network that takes images of one colour or three", shape, fits)
