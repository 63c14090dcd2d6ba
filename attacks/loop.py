"""The one loop that every attack runs in: it asks the model, judges, counts, keeps the best and drops what is done."""

import itertools
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from . import kernels
from .card import card_of
from .columns import Columns
from .errors import InputError
from .norms import per_row
from .rows import Rows
from .threat import Goal, ThreatModel
from .threat_set import ThreatSet
from .trace import Seen, Trace
from .victim import Answer, Query, Spent, Victim, borrowed, check_logits, decision

Search = Generator[Query, Answer, None]
Until = Literal["first", "smallest"]
LOOK_EVERY = 4  # steps between two looks at how many rows are left, where looking waits for the device


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
        columns = (
            x.clone(memory_format=torch.contiguous_format),
            zeros.bool(),
            size,
            zeros.clone(),
            zeros.clone(),
            zeros - 1,
            zeros - 1,
        )
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
    kind: Until = until or getattr(attack, "until", "first")
    ids = torch.arange(len(x), device=x.device) if ids is None else ids
    goal.check(len(x))
    rows = Rows(x, ids, goal, threat.around(x), seed)
    card = card_of(attack)
    card.check(attack, victim, rows)
    watch = watch or card.watch
    whole, found = Result.nothing_yet(x, watch), Result.nothing_yet(x, watch)
    working = torch.ones(len(x), dtype=torch.bool, device=x.device)
    left = Left(len(x), x.device)
    costs = Costs(max_queries, max_backwards)
    search = attack.search(rows)
    query = decision(x)  # the clean input is the first candidate
    with borrowed(victim.model, seed):
        for step in itertools.count():
            if max_queries is not None:
                query = costs.cut(query)
                can_pay = costs.asked + rows.confirmed + _tries(query) <= max_queries
                _settle(found, rows, working & ~can_pay, costs)
                working = working & can_pay
                if costs.asked + _tries(query) > max_queries or (working.is_cpu and not working.any()):
                    break
            if step == 0:
                answer = _clean_answer(victim, x, goal, costs)
                rows.trace = Trace(rows, answer.logits) if watch and answer.logits is not None else None
            else:
                query = query._replace(x=rows.threat.shown(query.x))
                answer = victim.answer(query, rows.goal, rows.aim)
            costs.ask(query, answer)
            if rows.trace is not None and step:
                rows.trace.see(rows, query, answer)
            if victim.passes > 1 or (step and victim.searched.form):
                _confirm(victim, rows, working, query, answer, costs)
            if _judge(found, rows, working, query, answer, step, costs, kind):
                left.look(working, step)
            if left.known == 0:
                break
            try:
                query = search.send(answer if step else None)  # type: ignore[arg-type]  # None starts a generator
                if rows.trace is not None:
                    rows.trace.feel(rows, answer)
            except (StopIteration, Spent):
                break
            finally:
                costs.taken += answer.backwards
            if (leaving := rows.leaving) is not None:
                _settle(found, rows, working & leaving, costs)
                working, rows.leaving = working & ~leaving, None
                left.look(working, step)
                if left.known == 0:
                    break
            size = left.known if working.is_cpu else fixed_size(left.known)
            if size <= compact_below * len(working):
                whole.put(rows.index, found)
                at = _staying(working, size)
                found, query, working = rows.keep(at, found, query, working)
    search.close()
    _settle(found, rows, working, costs)
    whole.put(rows.index, found)
    return whole


class Left:
    """How many rows are at work; where to ask would wait for the device, how many were one look ago."""

    def __init__(self, rows: int, device: torch.device):
        self.known = rows
        self.waits = device.type == "cuda"
        self.told: tuple[Tensor, torch.cuda.Event] | None = None

    def look(self, working: Tensor, step: int) -> None:
        if not self.waits:
            self.known = int(working.sum())
        elif step % LOOK_EVERY == 0:
            if self.told is not None:
                count, event = self.told
                event.synchronize()
                self.known = int(count)
            self.told = working.sum().to("cpu", non_blocking=True), torch.cuda.Event()
            self.told[1].record()


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

    def spent(self, rows: Rows) -> Tensor:
        """[b] int64, forwards and gradients."""
        return self.asked + self.taken + rows.confirmed

    def ask(self, query: Query, answer: Answer) -> None:
        self.asked += _tries(query)
        answer.allowed = math.inf if self.max_backwards is None else self.max_backwards - self.taken


def fixed_size(rows: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 ...: few sizes, since each is recorded and compiled for anew."""
    double = 1 << (rows - 1).bit_length()
    return double * 3 // 4 if rows <= double * 3 // 4 else double


def _staying(working: Tensor, size: int) -> Tensor:
    """[size] int64: the rows at work, and of those that are done as many as make up the size."""
    if working.is_cpu:
        return working.nonzero().squeeze(1)
    return (~working).byte().argsort(stable=True)[:size].sort().values  # without waiting for the device


def _tries(query: Query) -> int:
    return len(query.x) if query.many else 1


def _clean_answer(victim: Victim, x: Tensor, goal: Goal, costs: "Costs") -> Answer:
    """The clean inputs are wrong by plain argmax, as accuracy is counted; the logits are those of what is searched."""
    logits = victim.logits(x)
    check_logits(logits)
    goal.check(len(x), logits.shape[1])
    if logits.shape[1] < 2:
        raise InputError(f"The model has {logits.shape[1]} class; a classifier has at least two.")
    return Answer(goal.reached(logits.argmax(1)), _searched_logits(victim, x, logits, costs))


def _searched_logits(victim: Victim, x: Tensor, logits: Tensor, costs: "Costs") -> Tensor:
    """A cheaper form is shown the clean inputs too, as long as that can be paid for."""
    if victim.searched.form:
        if costs.max_queries == 1:
            return logits
        costs.asked += 1
    return victim.searched.begin(x, logits)


def _judge(
    found: Result, rows: Rows, working: Tensor, query: Query, answer: Answer, step: int, costs: "Costs", until: Until
) -> bool:
    """Success is judged here and nowhere else: goal reached AND candidate inside the threat set.

    Rows that are done are written down, and no longer `working` [b] bool. Returns False where it is sure that nothing
    was found.
    """
    tries = list(zip(query.x, answer.fooled, strict=True) if query.many else [(query.x, answer.fooled)])
    if kernels.keeps(working, rows.threat.norm.name):
        _judge_at_once(found, rows, working, tries, step, costs, until)
        return True
    news = False
    for x_adv, fooled in tries:
        hit = working & fooled
        if bool(hit.any()):
            news = True
            _keep_better(found, rows.threat, x_adv.detach(), hit, step, costs.spent(rows))
    if news:
        done = working & (found.size == 0 if until == "smallest" else found.fooled)
        _settle(found, rows, done, costs)
        working &= ~done
    return news


def _judge_at_once(
    found: Result,
    rows: Rows,
    working: Tensor,
    tries: list[tuple[Tensor, Tensor]],
    step: int,
    costs: "Costs",
    until: Until,
) -> None:
    """All that `_judge` does, in one launch for each try."""
    before = working.clone() if found.seen is not None else None
    kept = (found.x_adv.flatten(1), found.size, found.step, found.passes, found.fooled, found.queries, found.backwards)
    threat = rows.threat
    for number, (x_adv, fooled) in enumerate(tries, 1):
        kernels.keep_better(
            kept,
            working,
            fooled,
            threat.x.flatten(1),
            x_adv.detach().flatten(1),
            threat.low,
            threat.high,
            threat.eps,
            threat.norm.name,
            threat.levels,
            step,
            (costs.asked, costs.taken, rows.confirmed),
            until if number == len(tries) else None,
        )
    if before is not None and found.seen is not None and rows.trace is not None:
        done = before & ~working
        found.seen.put(done, rows.trace.seen.keep(done))


def _keep_better(found: Result, threat: ThreatSet, x_adv: Tensor, hit: Tensor, step: int, spent: Tensor) -> None:
    """Where x_adv [b, ...] has reached the goal, `hit` [b] bool, it is kept if it is inside and nearer than any before.

    spent: [b] int64, forwards and gradients so far.
    """
    at = hit.nonzero().squeeze(1)
    x_adv = x_adv[at]
    size = threat.size(x_adv, at)
    better = size < found.size[at]
    found.x_adv[at] = torch.where(per_row(better, x_adv), x_adv, found.x_adv[at])
    found.size[at] = torch.where(better, size, found.size[at])
    found.step[at] = torch.where(better, step, found.step[at])
    found.passes[at] = torch.where(better & ~found.fooled[at], spent[at], found.passes[at])
    found.fooled[at] |= better


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
