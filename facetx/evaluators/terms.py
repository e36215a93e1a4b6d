"""On what an evaluator measures, and how: what a receipt is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NORM = "the views' embeddings are summed, then scaled to length 1"


@dataclass(frozen=True)
class Terms:
    """On what an evaluator measures, and how.

    Attributes:
        items: Items of its data set in the order of their use, as often as they are used.
        protocol: (array, type that it is hashed in): all that says what is done with the items.
        flip: Whether mirrors are used.
        definitions: Number -> what it is, in words.
        thresholds: How they are chosen, in a word, where there are any.
        norm: How embeddings become unit vectors.
    """

    items: NDArray[np.int64]
    protocol: Sequence[tuple[ArrayLike, str]]
    flip: bool
    definitions: dict[str, str]
    thresholds: str | None = None
    norm: str = NORM
