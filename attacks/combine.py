"""Attacks made of attacks. `yield from` passes queries and answers through, so fooled rows drop out by themselves."""

from dataclasses import dataclass, replace
from functools import reduce

from .card import Card, card_of
from .errors import InputError
from .loop import Attack, Search
from .rows import Rows
from .threat import Goal
from .victim import scores


@dataclass(frozen=True)
class Restarts:
    """The same attack again and again; each time the rows' random numbers go on."""

    attack: Attack
    times: int = 5

    def __post_init__(self):
        if self.times < 1:
            raise InputError(f"times={self.times}: Restarts needs at least one run.")

    @property
    def card(self) -> Card:
        return card_of(self.attack)

    def search(self, rows: Rows) -> Search:
        for _ in range(self.times):
            yield from self.attack.search(rows)


@dataclass(frozen=True)
class Cascade:
    """One attack after the other, each on what the earlier ones left standing (AutoAttack, arXiv 2003.01690)."""

    attacks: tuple[Attack, ...]

    def __post_init__(self):
        if not self.attacks:
            raise InputError("Cascade was given no attack; it needs at least one.")

    @property
    def card(self) -> Card:
        return reduce(Card.also, map(card_of, self.attacks))

    def search(self, rows: Rows) -> Search:
        for attack in self.attacks:
            yield from attack.search(rows)


@dataclass(frozen=True)
class EachTarget:
    """A targeted attack on each of the `count` likeliest wrong classes in turn; the loss sets each against the label.

    Any wrong class counts as success. Fewer targets where the model has fewer classes.
    """

    attack: Attack
    count: int = 9

    def __post_init__(self):
        if self.count < 1:
            raise InputError(f"count={self.count}: EachTarget needs at least one target.")

    @property
    def card(self) -> Card:
        return replace(card_of(self.attack), targeted=False)

    def search(self, rows: Rows) -> Search:
        answer = yield scores(rows.x)
        assert answer.logits is not None
        hidden = answer.logits.scatter(1, rows.goal.labels[:, None], -float("inf"))
        count = min(self.count, hidden.shape[1] - 1)
        rows.targets = hidden.topk(count, dim=1).indices
        for i in range(count):
            rows.aim = Goal(rows.targets[:, i], targeted=True, versus=rows.goal.labels)
            yield from self.attack.search(rows)
        rows.aim = rows.goal
