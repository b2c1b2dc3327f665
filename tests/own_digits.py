"""Digits as a user would draw them: strokes of a pen, by Pillow, in many ways.

Nothing of them comes from MNIST or from scikit-learn's digits.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]


def arc(x: float, y: float, rx: float, ry: float, begin: float, end: float):
    """Return points of an ellipse, by angles in degrees: 0 is right, 90 is down."""
    angles = np.radians(np.linspace(begin, end, 40))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


# Strokes in a box of width and height 1, x to the right and y down.
STROKES: dict[int, list[list[list[Point]]]] = {
    0: [
        [arc(0.5, 0.5, 0.3, 0.48, -90, 270)],
        [arc(0.5, 0.5, 0.38, 0.46, -70, 290)],
    ],
    1: [
        [[(0.5, 0.0), (0.5, 1.0)]],
        [[(0.32, 0.2), (0.52, 0.0), (0.5, 1.0)]],
    ],
    2: [
        [[*arc(0.5, 0.28, 0.32, 0.27, -170, 30), (0.18, 0.98), (0.85, 0.98)]],
        [[*arc(0.48, 0.25, 0.3, 0.25, -150, 50), (0.2, 0.95), (0.5, 0.9), (0.85, 1.0)]],
    ],
    3: [
        [
            [
                *arc(0.45, 0.26, 0.3, 0.25, -160, 80),
                *arc(0.45, 0.74, 0.34, 0.25, -80, 150),
            ]
        ],
        [
            [
                *arc(0.42, 0.24, 0.3, 0.23, -140, 90),
                *arc(0.42, 0.73, 0.36, 0.26, -90, 140),
            ]
        ],
    ],
    4: [
        [[(0.62, 0.0), (0.12, 0.65), (0.9, 0.65)], [(0.68, 0.35), (0.66, 1.0)]],
        [[(0.2, 0.02), (0.17, 0.5), (0.78, 0.48)], [(0.76, 0.0), (0.72, 1.0)]],
    ],
    5: [
        [
            [
                (0.82, 0.02),
                (0.3, 0.02),
                (0.25, 0.42),
                *arc(0.46, 0.7, 0.34, 0.29, -110, 150),
            ]
        ],
        [
            [(0.3, 0.04), (0.26, 0.45), *arc(0.44, 0.71, 0.34, 0.28, -100, 140)],
            [(0.3, 0.04), (0.8, 0.0)],
        ],
    ],
    6: [
        [[(0.68, 0.02), (0.36, 0.3), *arc(0.5, 0.72, 0.28, 0.26, 190, 560)]],
        [[(0.55, 0.0), (0.25, 0.5), *arc(0.48, 0.74, 0.25, 0.24, 190, 550)]],
    ],
    7: [
        [[(0.12, 0.02), (0.85, 0.02), (0.4, 1.0)]],
        [[(0.15, 0.08), (0.8, 0.0), (0.5, 0.5), (0.42, 1.0)]],
    ],
    8: [
        [arc(0.5, 0.25, 0.24, 0.24, 90, 450), arc(0.5, 0.74, 0.3, 0.25, -90, 270)],
        [
            [
                *arc(0.5, 0.26, 0.26, 0.25, -30, -270),
                *arc(0.5, 0.75, 0.28, 0.25, -90, 270),
                *arc(0.5, 0.26, 0.26, 0.25, 90, -30),
            ]
        ],
    ],
    9: [
        [arc(0.48, 0.28, 0.28, 0.27, 0, 360), [(0.76, 0.25), (0.66, 1.0)]],
        [[*arc(0.47, 0.28, 0.27, 0.26, 0, -350), (0.74, 0.3), (0.72, 0.98)]],
    ],
}
WAYS = (
    {"pen": 0.1},
    {"pen": 0.04},  # thin
    {"pen": 0.2},  # thick
    {"pen": 0.1, "at": (0.15, 0.1), "high": 0.35},  # small, in a corner
    {"pen": 0.1, "at": (0.6, 0.5), "high": 0.45, "dark_ground": True},
    {"pen": 0.13, "turned": 8.0, "quality": 12},  # noise of a JPEG
    {"pen": 0.08, "turned": -10.0, "dark_ground": True, "quality": 15},
    {"pen": 0.12, "paper": 200, "ink": 70, "noise": 6.0, "quality": 30},  # a photo
)


def draw(
    digit: int,
    style: int,
    *,
    pen: float,
    at: Point | None = None,
    high: float = 0.7,
    turned: float = 0.0,
    dark_ground: bool = False,
    paper: int = 255,
    ink: int = 0,
    noise: float = 0.0,
    quality: int | None = None,
    side: int = 240,
) -> bytes:
    """Draw a digit on paper; return a PNG, or a JPEG where a quality is given."""
    paper, ink = (ink, paper) if dark_ground else (paper, ink)
    picture = Image.new("L", (side, side), paper)
    pencil = ImageDraw.Draw(picture)
    tall, wide = high * side, 0.62 * high * side
    left, top = (
        ((side - wide) / 2, (side - tall) / 2)
        if at is None
        else (at[0] * side, at[1] * side)
    )
    width = max(2, round(pen * tall))
    turn = math.radians(turned)
    for stroke in STROKES[digit][style]:
        points = []
        for x, y in stroke:
            dx, dy = (x - 0.5) * wide, (y - 0.5) * tall
            dx, dy = (
                dx * math.cos(turn) - dy * math.sin(turn),
                dx * math.sin(turn) + dy * math.cos(turn),
            )
            points.append((left + wide / 2 + dx, top + tall / 2 + dy))
        pencil.line(points, fill=ink, width=width, joint="curve")
        for x, y in points:  # a round pen
            r = width / 2 - 0.5
            pencil.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    picture = picture.filter(ImageFilter.GaussianBlur(1))
    if noise:
        drawn = np.random.default_rng(digit).normal(0, noise, (side, side))
        held = np.clip(np.asarray(picture) + drawn, 0, 255).astype(np.uint8)
        picture = Image.fromarray(held)
    file = io.BytesIO()
    if quality is None:
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def all_digits() -> list[tuple[int, str, bytes]]:
    """Return every digit in every style and way: (digit, name of a file, content)."""
    found = []
    for digit, styles in STROKES.items():
        for style in range(len(styles)):
            for number, way in enumerate(WAYS):
                suffix = "jpg" if "quality" in way else "png"
                name = f"{digit}_{style}_{number}.{suffix}"
                found.append((digit, name, draw(digit, style, **way)))
    return found
