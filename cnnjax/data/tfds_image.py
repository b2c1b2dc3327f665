"""One image of a TFDS dataset, as PNG, JPEG, BMP or GIF."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np

from cnnjax.base.errors import InputError

MOST_PIXELS = 2**24  # of one image, times its channels
FORMATS = ("PNG", "JPEG", "BMP", "GIF")  # what TFDS's feature Image stores


def decode_image(name: str, image: bytes | np.ndarray) -> np.ndarray:
    """Return an image, uint8 [height, width, channels], decoded if it is not yet.

    The header, which says how large the image is, is read before any pixel.

    Raises:
        InputError: an image of more than `MOST_PIXELS`. Pillow raises errors of many
            types for damaged images.
    """
    if isinstance(image, np.ndarray):
        return image
    from PIL import Image  # here, because only tfds: datasets need it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        file = Image.open(io.BytesIO(image), formats=FORMATS)
    size = (*file.size, len(file.getbands()))
    if math.prod(size) > MOST_PIXELS:
        raise InputError(
            f"expected images of at most {MOST_PIXELS} pixels times channels in "
            f"tfds:{name}, got {' x '.join(map(str, size))}; prepare smaller ones"
        )
    with file:
        pixels = np.asarray(file, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels
