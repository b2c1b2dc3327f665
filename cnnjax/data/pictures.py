"""A user's own pictures, made like the images that a network was trained on.

MNIST's makers scaled each grey digit, without changing its proportions, to fit into 20
x 20 pixels, and moved its centre of mass to the middle of 28 x 28 (LeCun et al. 1998).
`as_digit` does the same to a photographed or drawn digit; `as_image` only scales.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from cnnjax.base.errors import InputError, expect
from cnnjax.base.intake import read_bytes

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MOST_BYTES = 2**26  # of a file
MOST_PIXELS = 2**25  # of a picture
FILLS = 20 / 28  # the share of the image's side that a digit's longer side has
FAINT = 0.2  # of the darkest ink: what is fainter is paper, or noise of a JPEG
SPECK = 0.02  # of the largest stroke's pixels: what is smaller is dirt


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
    _check(shape)
    rows, columns, colours = shape
    held = grey_of(picture).round().astype(np.uint8) if colours == 1 else picture
    fitted = ImageOps.fit(Image.fromarray(held), (columns, rows), Image.Resampling.BOX)
    return np.asarray(fitted).reshape(shape)


def as_digit(
    picture: UInt8[np.ndarray, "height width channels"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "rows columns 1"]:
    """Return a drawn digit as MNIST's makers prepared theirs: bright on black.

    The ground is the median of the picture's border. Where it is light, the picture is
    inverted. What is faint, and specks, are paper. The ink is cut out, scaled without
    changing its proportions, and centred by its mass.

    Raises:
        InputError: the network does not take grey images, or the picture is empty.
    """
    _check(shape)
    rows, columns, colours = shape
    expect(
        "a network that takes grey images, or a picture as it is", colours, colours == 1
    )
    grey = grey_of(picture)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ground = float(np.median(border))
    ink = (ground - grey) if ground > grey.mean() else (grey - ground)
    ink = np.clip(ink, 0, None)
    deepest = float(np.percentile(ink, 99.5)) or float(ink.max())
    if deepest < 16:  # of 255: nothing but noise
        raise InputError("expected something drawn, got a picture of one shade")
    ink = np.clip(ink / deepest, 0, 1)
    mask = _without_specks(ink > FAINT)
    ink = np.where(ndimage.binary_dilation(mask, iterations=1), ink, 0)
    there = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    (top, bottom), (left, right) = ((t[0], t[-1] + 1) for t in there)
    cut = ink[top:bottom, left:right]
    side = FILLS * min(rows, columns)
    scale = side / max(cut.shape)
    height, width = (max(1, round(n * scale)) for n in cut.shape)
    size = width, height
    held = Image.fromarray((255 * cut).astype(np.float32))
    small = np.asarray(
        held.resize(
            size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        )
    )
    return _centred(np.clip(small, 0, 255), (rows, columns))[..., None]


def _without_specks(mask: np.ndarray) -> np.ndarray:
    parts = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3)), output=parts)
    sizes = np.bincount(parts.ravel())[1:]
    kept = 1 + np.flatnonzero(sizes >= SPECK * sizes.max())
    return np.isin(parts, kept)


def _centred(
    small: Float[np.ndarray, "height width"], shape: tuple[int, int]
) -> UInt8[np.ndarray, "rows columns"]:
    """Place a small image so that its centre of mass is in the middle."""
    image = np.zeros(shape, np.uint8)
    places = []
    for axis, room in enumerate(shape):
        mass = small.sum(axis=1 - axis)
        middle = float(np.average(np.arange(len(mass)), weights=mass))
        first = round((room - 1) / 2 - middle)
        places.append(min(max(0, first), room - len(mass)))
    (top, left), (height, width) = places, small.shape
    image[top : top + height, left : left + width] = small.round()
    return image


def _check(shape: tuple[int, ...]) -> None:
    fits = len(shape) == 3 and shape[-1] in (1, 3)
    expect("a network that takes images of one colour or three", shape, fits)
