"""The one loop that every attack runs in: it asks the model, judges, counts, keeps the best and drops what is done."""

import itertools
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from .card import card_of
from .columns import Columns
from .errors import InputError
from .norms import per_row
from .rows import Rows
from .threat import Goal, ThreatModel
from .trace import Seen, Trace
from .victim import Answer, Query, Spent, Victim, borrowed, check_logits, decision

Search = Generator[Query, Answer, None]
Until = Literal["first", "smallest"]
LOOK_EVERY = 8  # steps between two looks at how many rows are left, where looking waits for the device


class Attack(Protocol):
    """A frozen dataclass of options with one method, `search`, which yields queries and is sent the answers.

    What it yields is all that counts: it returns nothing and may stop whenever it likes. A class attribute
    `until = "smallest"` says that it goes on after the first success, and `card` (a `Card`) what it is made for.
    """

    def search(self, rows: Rows) -> Search: ...


@dataclass
class Result(Columns):
    """B examples, in the order they came."""

    x_adv: Tensor  # [B, ...] the input found, or x itself where none was
    fooled: Tensor  # [B] bool: goal reached, inside the threat set
    size: Tensor  # [B] float64, norm of x_adv - x; inf where not fooled
    queries: Tensor  # [B] int64 forward passes spent, the clean one included
    backwards: Tensor  # [B] int64 gradients taken
    step: Tensor  # [B] int64 the yield that found x_adv: 0 = already wrong when clean, -1 = none
    passes: Tensor  # [B] int64 forwards and gradients spent when the row was first fooled; -1 = never
    seen: Seen | None = None  # what the loop saw on the way; None where it was not asked to look

    def fooled_within(self, passes: Tensor) -> Tensor:
        """[m] float64: the share of the rows that were fooled after at most so many passes [m] each."""
        first = self.passes[self.fooled].sort().values
        return torch.searchsorted(first, passes.to(first), right=True).double() / max(1, len(self.fooled))

    @classmethod
    def nothing_yet(cls, x: Tensor, seen: bool = False) -> "Result":
        zeros = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        size = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        columns = (x.clone(), zeros.bool(), size, zeros.clone(), zeros.clone(), zeros - 1, zeros - 1)
        return cls(*columns, Seen.nothing(x) if seen else None)


def run(
    attack: Attack,
    victim: Victim,
    x: Tensor,
    goal: Goal,
    threat: ThreatModel,
    *,
    until: Until | None = None,
    seed: int = 0,
    ids: Tensor | None = None,
    compact_below: float = 0.75,
    max_queries: int | None = None,
    max_backwards: int | None = None,
    watch: bool = False,
) -> Result:
    """Attack every row of x [B, ...], all in one batch.

    until: "first" lets go of a row once it is fooled (fixed eps); "smallest" goes on looking for a smaller
        perturbation until the attack ends; None asks the attack.
    ids: [B] int64, the examples' places in the data set; None numbers them from 0.
    compact_below: shrink the batch when no more than this share of it is still at work; 0 never shrinks it.
        The result does not depend on it.
    max_queries, max_backwards: forwards (the clean one included) and gradients that a row may cost; there it stops.
    watch: also tell what was seen on the way (`Result.seen`), as some attacks need for themselves.
    A row's counts are what it costs alone: up to its success, or to where the attack let it go or ended.
    """
    until = until or getattr(attack, "until", "first")
    ids = torch.arange(len(x), device=x.device) if ids is None else ids
    goal.check(len(x))
    rows = Rows(x, ids, goal, threat.around(x), seed)
    card = card_of(attack)
    card.check(attack, victim, rows)
    watch = watch or card.watch
    whole, found = Result.nothing_yet(x, watch), Result.nothing_yet(x, watch)
    working = torch.ones(len(x), dtype=torch.bool, device=x.device)
    left = len(x)
    costs = Costs(max_queries, max_backwards)
    waits = x.device.type != "cpu"
    search = attack.search(rows)
    query = decision(x)  # the clean input is the first candidate
    with borrowed(victim.model, seed):
        for step in itertools.count():
            if max_queries is not None:
                query = costs.cut(query)
                can_pay = costs.asked + rows.confirmed + _tries(query) <= max_queries
                _settle(found, rows, working & ~can_pay, costs)
                working = working & can_pay
                if not working.any():
                    break
            if step == 0:
                answer = _clean_answer(victim, x, goal)
                rows.trace = Trace(rows, answer.logits) if watch and answer.logits is not None else None
            else:
                query = query._replace(x=rows.threat.shown(query.x))
                answer = victim.answer(query, rows.goal, rows.aim)
            costs.ask(query, answer)
            if rows.trace is not None and step:
                rows.trace.see(rows, query, answer)
            if victim.passes > 1:
                _confirm(victim, rows, working, query, answer, costs)
            if _judge(found, rows, working, query, answer, step, costs):
                going_on = working & (found.size > 0 if until == "smallest" else ~found.fooled)
                _settle(found, rows, working & ~going_on, costs)
                working = going_on
                if not waits or step % LOOK_EVERY == 0:
                    left = int(working.sum())
            if left == 0:
                break
            try:
                query = search.send(answer if step else None)  # type: ignore[arg-type]  # None starts a generator
                if rows.trace is not None:
                    rows.trace.feel(rows, answer)
            except (StopIteration, Spent):
                break
            finally:
                costs.taken += answer.backwards
            if rows.leaving is not None:
                _settle(found, rows, working & rows.leaving, costs)
                working, rows.leaving = working & ~rows.leaving, None
                left = int(working.sum())
                if left == 0:
                    break
            if left <= compact_below * len(working):
                whole.put(rows.index, found)
                at = working.nonzero().squeeze(1)
                rows.keep(at)
                found, query, working = found.keep(at), query.keep(at), working[at]
    search.close()
    _settle(found, rows, working, costs)
    whole.put(rows.index, found)
    return whole


@dataclass
class Costs:
    """The passes that each row still at work has cost so far, and how many it may."""

    max_queries: int | None
    max_backwards: int | None
    asked: int = 0  # forwards
    taken: int = 0  # gradients

    def cut(self, query: Query) -> Query:
        """With no more tries than can be paid for, but at least one."""
        left = max(1, self.max_queries - self.asked) if self.max_queries is not None else len(query.x)
        return query._replace(x=query.x[:left]) if query.many else query

    def ask(self, query: Query, answer: Answer) -> None:
        self.asked += _tries(query)
        answer.allowed = math.inf if self.max_backwards is None else self.max_backwards - self.taken


def _tries(query: Query) -> int:
    return len(query.x) if query.many else 1


def _clean_answer(victim: Victim, x: Tensor, goal: Goal) -> Answer:
    """The clean inputs are wrong by plain argmax, as accuracy is counted."""
    logits = victim.logits(x)
    check_logits(logits)
    goal.check(len(x), logits.shape[1])
    if logits.shape[1] < 2:
        raise InputError(f"The model has {logits.shape[1]} class; a classifier has at least two.")
    return Answer(goal.reached(logits.argmax(1)), logits)


def _judge(found: Result, rows: Rows, working: Tensor, query: Query, answer: Answer, step: int, costs: "Costs") -> bool:
    """Success is judged here and nowhere else: goal reached AND candidate inside the threat set.

    Returns False where it is sure that nothing was found.
    """
    tries = zip(query.x, answer.fooled, strict=True) if query.many else [(query.x, answer.fooled)]
    news = False
    for x_adv, fooled in tries:
        hit, at = working & fooled, slice(None)
        if hit.is_cpu:
            at = hit.nonzero().squeeze(1)
            if len(at) == 0:
                continue
            x_adv, hit = x_adv[at], hit[at]
        news = True
        x_adv = x_adv.detach()
        size = rows.threat.size(x_adv, at)
        better = hit & (size < found.size[at])
        found.x_adv[at] = torch.where(per_row(better, x_adv), x_adv, found.x_adv[at])
        found.size[at] = torch.where(better, size, found.size[at])
        found.step[at] = torch.where(better, step, found.step[at])
        passes = costs.asked + costs.taken + rows.confirmed[at]
        found.passes[at] = torch.where(better & ~found.fooled[at], passes, found.passes[at])
        found.fooled[at] |= better
    return news


def _confirm(victim: Victim, rows: Rows, working: Tensor, query: Query, answer: Answer, costs: Costs) -> None:
    """What fooled a randomised victim once must do so again, in most of some fresh passes: else it is no success."""
    most = math.inf if costs.max_queries is None else costs.max_queries - victim.passes
    for x_adv, fooled in zip(query.x, answer.fooled, strict=True) if query.many else [(query.x, answer.fooled)]:
        candidates = working & fooled & rows.threat.size(x_adv).isfinite() & (costs.asked + rows.confirmed <= most)
        at = candidates.nonzero().squeeze(1)
        fooled.fill_(False)
        if len(at):
            fooled[at] = victim.confirmed(x_adv[at], rows.goal.keep(at))
            rows.confirmed = rows.confirmed + victim.passes * candidates


def _settle(found: Result, rows: Rows, done: Tensor, costs: Costs) -> None:
    """Write down what the rows [b] bool that are done have cost."""
    found.queries = torch.where(done, costs.asked + rows.confirmed, found.queries)
    found.backwards = torch.where(done, costs.taken, found.backwards)
    if found.seen is not None and rows.trace is not None:
        found.seen.put(done, rows.trace.seen.keep(done))
