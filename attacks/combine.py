"""Attacks made of attacks. `yield from` passes queries and answers through, so fooled rows drop out by themselves."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count

import torch
from torch import Tensor, nn

from .card import Card, card_of
from .columns import PerRow
from .errors import InputError
from .loop import Attack, Search, Until, in_turn
from .losses import margin
from .norms import per_row
from .rows import Rows
from .threat import Goal
from .victim import Access, Answer, Query, Victim, borrowed, check_logits, decision, scores


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
        yield from in_turn(rows, [self.attack.search] * self.times)


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
        yield from in_turn(rows, [attack.search for attack in self.attacks])


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
        card = card_of(self.attack)
        return replace(card, targeted=False, access=max(card.access, Access.SCORES))

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


@dataclass(frozen=True)
class Transferred:
    """The attack's search on a surrogate; the victim is asked for decisions only (transfer: arXiv 1605.07277).

    surrogate: gives logits [b, K] for the victim's inputs and classes, in the same order; an ensemble is
        attacks.models.Averaged. It is put in eval mode and left exactly as it was. Its passes are not the victim's and
        are not counted; that it is fooled stops nothing.
    every: the victim is asked after so many answers of the surrogate; 0: once, when the search has ended. It is shown
        the candidate since last time that goes furthest beyond the surrogate's boundary (of equal ones the latest)
        among those inside the threat set; where there is none, the last one, brought back into the set. A minimal-norm
        attack goes hardly beyond it, and carries over badly.

    The surrogate runs in its own type of numbers, on the inputs' device. InputError where it is on another device, or
    where the goal names a class that it does not have. More classes than the victim's cannot be noticed: decisions do
    not tell how many the victim has.
    """

    attack: Attack
    surrogate: nn.Module
    every: int = 0

    def __post_init__(self):
        if not isinstance(self.surrogate, nn.Module):
            raise InputError(
                f"The surrogate is {type(self.surrogate).__name__}; a torch.nn.Module that gives logits is needed."
            )
        if isinstance(self.attack, Transferred):
            raise InputError("The attack is Transferred already: give the attack that searches on its surrogate.")
        if card_of(self.attack).watch:
            raise InputError(f"{type(self.attack).__name__} decides by the victim's own answers: give another attack.")
        if self.every < 0:
            raise InputError(f"every={self.every}: 0 asks the victim at the end, 1 and more every so many answers.")

    @property
    def card(self) -> Card:
        return replace(card_of(self.attack), access=Access.DECISION)

    @property
    def until(self) -> Until:
        return getattr(self.attack, "until", "first")

    def search(self, rows: Rows) -> Search:
        local, inner = self._local(rows), self.attack.search(rows)
        rows.transfer = _Stretch(rows.x, torch.full_like(rows.threat.radius, -torch.inf), None)
        for stretch in count():
            with borrowed(self.surrogate, (rows.seed + stretch) % 2**63):
                ended = self._ask_surrogate(rows, local, inner)
            yield decision(rows.transfer.furthest)
            if ended:
                return
            rows.transfer = replace(rows.transfer, lead=torch.full_like(rows.transfer.lead, -torch.inf))

    def _local(self, rows: Rows) -> Victim:
        """The surrogate as a victim of its own, once it has answered for the clean inputs."""
        tensors = [*self.surrogate.parameters(), *self.surrogate.buffers()]
        elsewhere = next((each.device for each in tensors if each.device != rows.x.device), None)
        if elsewhere is not None:
            raise InputError(
                f"The surrogate is on {elsewhere}, the victim's inputs are on {rows.x.device}: "
                f"move it with surrogate.to({str(rows.x.device)!r})."
            )
        dtype = next((each.dtype for each in tensors if each.is_floating_point()), rows.x.dtype)
        local = Victim(self.surrogate if dtype == rows.x.dtype else _InItsType(self.surrogate, dtype))
        with borrowed(self.surrogate, rows.seed % 2**63):
            logits = local.logits(rows.x)
        try:
            check_logits(logits)
        except InputError as error:
            raise InputError(f"The surrogate cannot be used. {error}") from None
        largest = int(rows.goal.labels.max())
        if largest >= logits.shape[1]:
            raise InputError(
                f"The surrogate has {logits.shape[1]} classes, and the goal names class {largest}: "
                "a surrogate must know the victim's classes, in the same order."
            )
        return local

    def _ask_surrogate(self, rows: Rows, local: Victim, inner: Search) -> bool:
        """Answers the search until it ends (True), or `every` times; what it asks next is then kept on rows."""
        try:
            query = rows.transfer.query or next(inner)
            for answered in count(1):
                # At least scores, so that there are logits.
                query = query._replace(x=rows.threat.shown(query.x), access=max(query.access, Access.SCORES))
                answer = local.answer(query, rows.goal, rows.aim)
                for x_adv, lead in _tries(query, answer, rows.goal):
                    rows.transfer = rows.transfer.further(rows, x_adv, lead)
                query = inner.send(answer)
                if answered == self.every:
                    rows.transfer = replace(rows.transfer, query=query)
                    return False
        except StopIteration:
            pass
        return True


@dataclass
class _Stretch(PerRow):
    """What a search on a surrogate has come to since the victim was asked last."""

    furthest: Tensor  # [b, ...]
    lead: Tensor  # [b] how far `furthest` is beyond the surrogate's boundary; -inf where it was outside the threat set
    query: Query | None  # what the search asks next

    def further(self, rows: Rows, x_adv: Tensor, lead: Tensor) -> "_Stretch":
        inside = rows.threat.size(x_adv).isfinite()
        lead = torch.where(inside & ~lead.isnan(), lead.to(self.lead.dtype), -torch.inf)
        inward = torch.where(per_row(inside, x_adv), x_adv, rows.threat.project(x_adv))
        better = lead >= self.lead
        furthest = torch.where(per_row(better, x_adv), inward, self.furthest)
        return replace(self, furthest=furthest, lead=torch.where(better, lead, self.lead))


def _tries(query: Query, answer: Answer, goal: Goal) -> Iterator[tuple[Tensor, Tensor]]:
    """Each candidate [b, ...] of a query, and how far [b] its logits are beyond the boundary."""
    assert answer.logits is not None
    several = query.many
    for x_adv, logits in zip(query.x, answer.logits, strict=True) if several else [(query.x, answer.logits)]:
        yield x_adv.detach(), margin(logits if logits.dtype == torch.float64 else logits.float(), goal).value


class _InItsType(nn.Module):
    """A model handed its own type of floating-point numbers, and answering in the caller's."""

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model, dtype

    def get_submodule(self, target: str) -> nn.Module:
        """Layers go by the names that they have in the model."""
        return self.model.get_submodule(target)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x.to(self.dtype))
        return logits.to(x.dtype) if isinstance(logits, Tensor) else logits
