"""One-pixel attack: where and how to paint a few pixels, by differential evolution (arXiv 1710.08864)."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import losses
from ..card import Card
from ..errors import InputError
from ..loop import Search
from ..rows import Rows
from ..victim import Access, Answer, Query, scores

AT_ONCE = 2**20  # numbers of one row's tries that are asked in one pass


@dataclass(frozen=True)
class OnePixel:
    """One-pixel attack (arXiv 1710.08864): a population of paintings, each a place and a colour for `pixels` pixels.

    A child is a + factor * (b - c) of three random members and takes its parent's place where the loss is larger. The
    threat is L0, which counts every channel: one pixel of a colour image needs an eps of 3. The paper's population is
    400 and its generations 100.
    """

    card: ClassVar = Card(Access.SCORES, norms=("l0",), images=True)

    pixels: int = 1
    population: int = 100
    generations: int = 50
    factor: float = 0.5
    loss: str | losses.Loss = "margin"

    def __post_init__(self):
        losses.named(self.loss)
        if self.pixels < 1 or self.population < 4 or self.generations < 1 or not self.factor > 0:
            raise InputError(
                f"pixels={self.pixels}, population={self.population}, generations={self.generations}, "
                f"factor={self.factor}: one pixel, 4 members, one generation and a positive factor are the least."
            )

    def search(self, rows: Rows) -> Search:
        rows.genes = rows.uniform(self.population, self.pixels, 2 + rows.x.shape[1], low=0.0, high=1.0)
        rows.children = rows.genes
        yield from self._measure(rows)
        rows.fitness = rows.measured
        for _ in range(self.generations):
            rows.children = self._children(rows)
            yield from self._measure(rows)
            better = rows.measured > rows.fitness
            rows.genes = torch.where(better[:, :, None, None], rows.children, rows.genes)
            rows.fitness = torch.where(better, rows.measured, rows.fitness)

    def _children(self, rows: Rows) -> Tensor:
        """[b, population, pixels, 2 + C] in [0, 1]."""
        parents = (rows.uniform(self.population, 3, low=0.0, high=1.0) * self.population).long()  # [b, population, 3]
        at = torch.arange(len(rows), device=parents.device)[:, None]
        first, second, third = (rows.genes[at, parents[:, :, i]] for i in range(3))
        return (first + self.factor * (second - third)).clamp(0, 1)

    def _measure(self, rows: Rows) -> Generator[Query, Answer, None]:
        """Asks for the loss of the children: rows.measured [b, population]."""
        some = max(1, AT_ONCE // rows.x[0].numel())
        rows.measured = rows.genes.new_full((len(rows), self.population), -torch.inf)
        for first in range(0, self.population, some):
            part = slice(first, min(first + some, self.population))
            answer = yield scores(_painted(rows, rows.children[:, part]), losses.named(self.loss), many=True)
            part = slice(first, first + len(answer.fooled))  # fewer where no more tries could be paid for
            rows.measured = rows.measured.index_copy(
                1, torch.arange(part.start, part.stop, device=rows.x.device), answer.loss.T.to(rows.measured.dtype)
            )


def _painted(rows: Rows, genes: Tensor) -> Tensor:
    """[q, b, C, H, W]: the images with the genes' pixels painted; genes [b, q, pixels, 2 + C] are within [0, 1]."""
    batch, channels, height, width = rows.x.shape
    places = (genes[..., 0] * height).long().clamp_max(height - 1) * width
    places = (places + (genes[..., 1] * width).long().clamp_max(width - 1)).transpose(0, 1)  # [q, b, pixels]
    at = places[:, :, None, :].expand(-1, -1, channels, -1)  # [q, b, C, pixels]
    low, high = (
        bound.view(batch, channels, -1).expand(len(at), -1, -1, -1) for bound in (rows.threat.low, rows.threat.high)
    )
    colours = genes[..., 2:].permute(1, 0, 3, 2)  # [q, b, C, pixels]
    paint = low.gather(3, at) + colours * (high.gather(3, at) - low.gather(3, at))
    painted = rows.x.flatten(2).expand(len(at), -1, -1, -1).scatter(3, at, paint)
    return torch.minimum(torch.maximum(painted, low), high).view(len(at), *rows.x.shape)
