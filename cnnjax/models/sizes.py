"""What every layer tells of itself: its kind, and its sizes for ONE example."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

Shape = tuple[int, ...]


class Sizes(NamedTuple):
    """The sizes of a layer, for one example."""

    output_shape: Shape
    kernel_shape: Shape = ()  # the last axis is features; (): no parameters
    macs: int = 0  # multiply-accumulates of one forward pass


@runtime_checkable
class Layer(Protocol):
    """The interface of all layers.

    A layer also has `multiply` and `as_matrix`, or `function`. It is a `NamedTuple` or
    a frozen dataclass, because networks are compared and used as keys of caches.
    """

    kind: ClassVar[str]  # the first part of the name of its parameters

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        ...
