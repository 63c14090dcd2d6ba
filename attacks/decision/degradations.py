"""Degradations without an adversary, made only as strong as it takes: salt and pepper, blur, loss of contrast."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..card import Card
from ..errors import InputError
from ..loop import Search, Until
from ..norms import per_row
from ..rows import Rows
from ..victim import Access, Answer, Query, decision

AT_ONCE = 2**20  # numbers of one row's tries that are asked in one pass
WIDEST = 0.25  # standard deviation of the strongest blur, of the image's longer side


@dataclass(frozen=True)
class Degradation:
    """A baseline: a row is degraded in `grid` even steps; the first that fools it is narrowed down by `halvings`.

    kind: "salt_and_pepper" sets a growing share of the values to one of their bounds, at places that stay; "blur"
        widens a Gaussian; "contrast" draws all values towards the row's mean.
    """

    until: ClassVar[Until] = "smallest"

    kind: Literal["salt_and_pepper", "blur", "contrast"]
    grid: int = 20
    halvings: int = 8

    def __post_init__(self):
        if self.grid < 1 or self.halvings < 0:
            raise InputError(f"grid={self.grid}, halvings={self.halvings}: at least one step and no fewer than 0.")

    @property
    def card(self) -> Card:
        return Card(Access.DECISION, eps="finite", images=self.kind == "blur")

    def search(self, rows: Rows) -> Search:
        rows.luck = rows.uniform(*rows.x.shape[1:], low=0.0, high=1.0)
        yield from self._first_that_fools(rows)
        for _ in range(self.halvings):
            middle = (rows.weak + rows.strong) / 2
            rows.middle = middle
            answer = yield decision(self._degraded(rows, middle))
            rows.weak = torch.where(answer.fooled, rows.weak, rows.middle)
            rows.strong = torch.where(answer.fooled, rows.middle, rows.strong)

    def _first_that_fools(self, rows: Rows) -> Generator[Query, Answer, None]:
        """rows.strong [b]: the first strength of the grid that fools the row, 1 where none does; rows.weak."""
        rows.strong = torch.full_like(rows.threat.radius, torch.inf)
        some = max(1, AT_ONCE // rows.x[0].numel())
        strengths = [(k + 1) / self.grid for k in range(self.grid)]
        for first in range(0, self.grid, some):
            part = strengths[first : first + some]
            points = [self._degraded(rows, torch.full_like(rows.threat.radius, strength)) for strength in part]
            answer = yield decision(torch.stack(points), many=True)
            for strength, fooled in zip(part, answer.fooled, strict=False):  # fewer where the budget is spent
                rows.strong = torch.where(fooled, rows.strong.clamp_max(strength), rows.strong)
        rows.strong = rows.strong.clamp_max(1.0)
        rows.weak = rows.strong - 1 / self.grid

    def _degraded(self, rows: Rows, strength: Tensor) -> Tensor:
        """[b, ...]: rows.x degraded by a strength [b] from 0 (not at all) to 1, within the threat's bounds."""
        low, high = (bound.view_as(rows.x) for bound in (rows.threat.low, rows.threat.high))
        amount = per_row(strength, rows.x)
        if self.kind == "salt_and_pepper":
            return torch.where(rows.luck < amount, torch.where(rows.luck * 2 < amount, low, high), rows.x)
        if self.kind == "contrast":
            mean = rows.x.flatten(1).double().sum(1) / rows.x[0].numel()
            return (rows.x + (per_row(mean.to(rows.x.dtype), rows.x) - rows.x) * amount).clamp(low, high)
        return blurred(rows.x, strength * (WIDEST * max(rows.x.shape[2:]))).clamp(low, high)


def blurred(x: Tensor, deviation: Tensor) -> Tensor:
    """Images x [b, C, H, W] under a Gaussian of deviation [b] pixels; beyond the border the nearest pixel."""
    for axis in (2, 3):
        length = x.shape[axis]
        apart = torch.arange(1 - length, length, device=x.device, dtype=x.dtype)
        weights = (-0.5 * (apart / deviation.clamp_min(1e-3)[:, None]).square()).exp()
        near = torch.arange(length, device=x.device)
        total, summed = torch.zeros_like(x), torch.zeros_like(x[:, :1, :1, :1])
        for k in range(2 * length - 1):
            weight = per_row(weights[:, k], x)
            total = total + x.index_select(axis, (near + (k + 1 - length)).clamp(0, length - 1)) * weight
            summed = summed + weight
        x = total / summed
    return x


def salt_and_pepper(grid: int = 20, halvings: int = 8) -> Degradation:
    """A growing share of the values set to their bounds (a baseline)."""
    return Degradation("salt_and_pepper", grid, halvings)


def blur(grid: int = 20, halvings: int = 8) -> Degradation:
    """A Gaussian blur of growing width (a baseline; images)."""
    return Degradation("blur", grid, halvings)


def contrast(grid: int = 20, halvings: int = 8) -> Degradation:
    """All values drawn towards the row's mean (a baseline)."""
    return Degradation("contrast", grid, halvings)
