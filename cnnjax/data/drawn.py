"""Digits that a user has drawn, made like those that a network was trained on.

MNIST's makers scaled each grey digit, without changing its proportions, to fit into 20
x 20 pixels, and moved its centre of mass to the middle of 28 x 28 (LeCun et al. 1998).
Those of scikit-learn's digits made black and white bitmaps of 32 x 32, which a digit
fills, and counted the ink in blocks of 4 x 4 (Alpaydin and Kaynak 1998).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Float, UInt8
from PIL import Image

from cnnjax.base.errors import InputError, expect
from cnnjax.data.digits import enlarged
from cnnjax.data.pictures import as_image, check_shape, grey_of

FILLS = 20 / 28  # the share of the image's side that a digit's longer side has
FAINT = 0.2  # of the darkest ink: what is fainter is paper, or noise of a JPEG
SPECK = 0.02  # of the largest stroke's pixels: what is smaller is dirt
BITMAP, BLOCK = 32, 4  # of scikit-learn's digits
FINE = 512  # pixels of the longer side at which strokes are thickened
LEAST_INK = 0.25  # the share of ink of the thinnest of them, but for one in a hundred

Picture = UInt8[np.ndarray, "height width channels"]


def preparation_of(
    dataset: str, shape: tuple[int, ...], *, raw: bool = False
) -> Callable[[Picture, tuple[int, ...]], UInt8[np.ndarray, "rows columns colours"]]:
    """Return what makes pictures like the images of a data set, of this shape.

    `raw`, and networks that take colours: pictures are only scaled.
    """
    if raw or shape[-1:] != (1,):
        return as_image
    return as_coarse_digit if dataset == "digits" else as_digit


def as_digit(
    picture: Picture, shape: tuple[int, ...]
) -> UInt8[np.ndarray, "rows columns 1"]:
    """Return a drawn digit as MNIST's makers prepared theirs: bright on black.

    The ink is cut out (`ink_of`), scaled without changing its proportions, and centred
    by its mass.

    Raises:
        InputError: the network does not take grey images, or the picture is empty.
    """
    _check_grey(shape)
    rows, columns, _ = shape
    small = _fitted(ink_of(picture), FILLS * min(rows, columns))
    return _centred(np.clip(255 * small, 0, 255), (rows, columns))[..., None]


def as_coarse_digit(
    picture: Picture, shape: tuple[int, ...]
) -> UInt8[np.ndarray, "rows columns 1"]:
    """Return a drawn digit as scikit-learn's digits are: 8 x 8, enlarged.

    The ink is cut out (`ink_of`), made as thick as theirs is at least, scaled to a
    bitmap without changing its proportions, and counted in blocks.

    Raises:
        InputError: the network does not take grey images, or the picture is empty.
    """
    _check_grey(shape)
    ink = ink_of(picture)
    fine = _fitted(ink, min(FINE, max(ink.shape)))
    bitmap = _fitted(_thickened(fine > 0.5 * fine.max()), BITMAP) > 0.5
    blocks = bitmap.reshape(BITMAP // BLOCK, BLOCK, -1, BLOCK).sum((1, 3))
    rows, columns, _ = shape
    return enlarged(blocks, (rows, columns))


def ink_of(picture: Picture) -> Float[np.ndarray, "rows columns"]:
    """Cut the ink out of a picture: 1 is the darkest, 0 is paper.

    The ground is the median of the picture's border. Where it is light, the picture is
    inverted. What is faint, and specks, are paper.

    Raises:
        InputError: the picture is empty.
    """
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
    ink = np.where(scipy.ndimage.binary_dilation(mask, iterations=1), ink, 0)
    there = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    (top, bottom), (left, right) = ((t[0], t[-1] + 1) for t in there)
    return ink[top:bottom, left:right]


def _fitted(ink: np.ndarray, side: float | int) -> np.ndarray:
    """Scale ink so that its longer side is this long."""
    scale = side / max(ink.shape)
    height, width = (max(1, round(n * scale)) for n in ink.shape)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    held = Image.fromarray(ink.astype(np.float32))
    return np.asarray(held.resize((width, height), how))


def _thickened(strokes: np.ndarray) -> np.ndarray:
    """Widen strokes just so far that LEAST_INK of the square around them is ink."""
    side = max(strokes.shape)
    before = [(side - length) // 2 for length in strokes.shape]
    around = [(b, side - n - b) for b, n in zip(before, strokes.shape, strict=True)]
    paper = ~np.pad(strokes, around)
    from_ink = np.asarray(scipy.ndimage.distance_transform_edt(paper))
    return (from_ink <= np.quantile(from_ink, LEAST_INK)).astype(np.float64)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    parts = np.zeros(mask.shape, np.int32)
    scipy.ndimage.label(mask, np.ones((3, 3)), output=parts)
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


def _check_grey(shape: tuple[int, ...]) -> None:
    check_shape(shape)
    what = "a network that takes grey images, or a picture as it is"
    expect(what, shape[-1], shape[-1] == 1)
