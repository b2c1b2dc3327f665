"""ONE example: layers, networks that are stacked from them, and losses."""

from cnnjax.models.network import (
    as_it_is,
    init,
    make_apply,
    make_tapped_apply,
    zero_taps,
)

__all__ = [
    "as_it_is",
    "init",
    "make_apply",
    "make_tapped_apply",
    "zero_taps",
]
