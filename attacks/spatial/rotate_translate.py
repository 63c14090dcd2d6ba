"""Rotations and translations of the image: is the classifier right about the picture when it hangs askew?"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..card import Card
from ..errors import InputError
from ..images import turned
from ..loop import Search
from ..rows import Rows
from ..victim import Access, decision

AT_ONCE = 5  # tries of a row in one query


@dataclass(frozen=True)
class RotateTranslate:
    """A rotation within +-angle degrees and a shift within +-shift of each side, bilinear (arXiv 1712.02779).

    search: "grid" tries `angles` rotations times `shifts` shifts downwards times as many to the right, all evenly
        spaced, ends included; "random" tries `tries` of them, drawn for each row (the paper's worst of 10).
    border: what stands where nothing was: "zeros", as published, or the nearest pixel of the image's "edge".

    The perturbation is bounded by these, not by a norm: the threat is NORM:inf, whose bounds and mask hold. Five
    tries are shown at once, so a row costs a multiple of five (but for the last).
    """

    card: ClassVar = Card(Access.DECISION, eps="inf", images=True)

    angle: float = 30.0
    shift: float = 0.1
    search_by: Literal["grid", "random"] = "grid"
    angles: int = 31
    shifts: int = 5
    tries: int = 10
    border: Literal["zeros", "edge"] = "zeros"

    def __post_init__(self):
        if self.search_by not in ("grid", "random") or self.border not in ("zeros", "edge"):
            raise InputError(
                f"search_by={self.search_by!r}, border={self.border!r}: grid or random, and zeros or edge, are needed."
            )
        if min(self.angles, self.shifts, self.tries) < 1 or not (self.angle >= 0 and 0 <= self.shift <= 1):
            raise InputError(
                f"angle={self.angle}, shift={self.shift}, angles={self.angles}, shifts={self.shifts}, "
                f"tries={self.tries}: at least one of each, an angle of at least 0 and a shift from 0 to 1 are needed."
            )

    def search(self, rows: Rows) -> Search:
        for angle, down, right in self._drawn(rows) if self.search_by == "random" else self._grid(rows):
            moved = [
                turned(rows.x, *one, edge=self.border == "edge")
                for one in zip(angle.unbind(1), down.unbind(1), right.unbind(1), strict=True)
            ]
            low, high = rows.threat.low.view_as(rows.x), rows.threat.high.view_as(rows.x)
            yield decision(torch.stack(moved).clamp(low, high), many=True)

    def _grid(self, rows: Rows) -> Iterator[tuple[Tensor, ...]]:
        """Angle, shift downwards and to the right, [1, AT_ONCE] each: the same for every row. Less the input itself."""
        height, width = rows.x.shape[2:]
        down, right = (_spaced(self.shift * side, self.shifts) for side in (height, width))
        each = [place for place in product(_spaced(self.angle, self.angles), down, right) if any(place)]
        for first in range(0, len(each), AT_ONCE):
            places = torch.tensor(each[first : first + AT_ONCE], dtype=torch.float64, device=rows.x.device)
            yield tuple(places.T[:, None])

    def _drawn(self, rows: Rows) -> Iterator[tuple[Tensor, ...]]:
        """Angle, shift downwards and to the right, [b, AT_ONCE] each."""
        height, width = rows.x.shape[2:]
        for first in range(0, self.tries, AT_ONCE):
            luck = rows.uniform(3, min(AT_ONCE, self.tries - first)).double()
            yield luck[:, 0] * self.angle, luck[:, 1] * self.shift * height, luck[:, 2] * self.shift * width


def _spaced(most: float, count: int) -> list[float]:
    """`count` numbers from -most to most; one alone is 0."""
    return [most * (2 * i / (count - 1) - 1) for i in range(count)] if count > 1 else [0.0]
