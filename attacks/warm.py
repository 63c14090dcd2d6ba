"""A warm start: where does a search set out from, once another attack has made its proposals?"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .card import Card, card_of
from .errors import InputError
from .gradient.pieces import Start, start_named
from .loop import Attack, Search, Until, in_turn
from .norms import per_row
from .rows import Rows
from .victim import Access


@dataclass(frozen=True)
class Warm:
    """`first` proposes and is judged like any attack; where it fails, `then` starts from the best that was shown.

    first: of any access: what it shows is shown with scores, which a search by gradients sees anyway. A trained
        generator (`advgan.perturb.Generated`) makes its proposals for a forward pass each.
    then: an attack with a `start`: APGD, GradientAscent, Verdict.

    Best is the largest margin inside the threat set. Where nothing shown is better than the clean input, `then` starts
    as it does alone. All passes are counted, those of `first` too.
    """

    first: Attack
    then: Attack

    def __post_init__(self):
        start = getattr(self.then, "start", None)
        if card_of(self.then).access is not Access.GRADIENT or not (isinstance(start, str) or callable(start)):
            raise InputError(
                f"{type(self.then).__name__} has no `start` to be given: "
                "then=APGD(), a GradientAscent such as attacks.pgd(), or attacks.verdict.Verdict()."
            )

    @property
    def card(self) -> Card:
        return replace(card_of(self.first).also(card_of(self.then)), watch=True)

    @property
    def until(self) -> Until:
        return getattr(self.then, "until", "first")

    def search(self, rows: Rows) -> Search:
        then: Any = self.then
        warmed = replace(then, start=BestShown(start_named(then.start)))
        yield from in_turn(rows, [lambda rows: _with_scores(self.first.search(rows)), warmed.search])


@dataclass(frozen=True)
class BestShown:
    """Start at the best point that the loop has seen; where that is the clean input, as `otherwise` says."""

    otherwise: Start

    def __call__(self, rows: Rows) -> Tensor:
        seen = rows.trace.seen
        return torch.where(per_row(seen.lead > seen.first, rows.x), rows.trace.best, self.otherwise(rows))


def _with_scores(search: Search) -> Search:
    answer = None
    try:
        while True:
            query = search.send(answer)  # type: ignore[arg-type]  # None starts a generator
            answer = yield query._replace(access=max(query.access, Access.SCORES))
    except StopIteration:
        return
