"""When has a candidate succeeded, which one is kept, and which rows are done?"""

import math

import torch
from torch import Tensor

from . import kernels
from .costs import Costs
from .norms import per_row
from .result import Result
from .rows import Rows
from .threat_set import ThreatSet
from .victim import Answer, Query, Victim


def judge(
    found: Result, rows: Rows, working: Tensor, query: Query, answer: Answer, step: int, costs: Costs, until: str
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
        settle(found, rows, done, costs)
        working &= ~done
    return news


def _judge_at_once(
    found: Result,
    rows: Rows,
    working: Tensor,
    tries: list[tuple[Tensor, Tensor]],
    step: int,
    costs: Costs,
    until: str,
) -> None:
    """All that `judge` does, in one launch for each try."""
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


def confirm(victim: Victim, rows: Rows, working: Tensor, query: Query, answer: Answer, costs: Costs) -> None:
    """What fooled a randomised victim once must do so again, in most of some fresh passes: else it is no success."""
    most = math.inf if costs.max_queries is None else costs.max_queries - victim.passes
    for x_adv, fooled in zip(query.x, answer.fooled, strict=True) if query.many else [(query.x, answer.fooled)]:
        candidates = working & fooled & rows.threat.size(x_adv).isfinite() & (costs.asked + rows.confirmed <= most)
        at = candidates.nonzero().squeeze(1)
        fooled.fill_(False)
        if len(at):
            fooled[at] = victim.confirmed(x_adv[at], rows.goal.keep(at))
            rows.confirmed = rows.confirmed + victim.passes * candidates


def settle(found: Result, rows: Rows, done: Tensor, costs: Costs) -> None:
    """Write down what the rows [b] bool that are done have cost."""
    found.queries = torch.where(done, costs.asked + rows.confirmed, found.queries)
    found.backwards = torch.where(done, costs.taken, found.backwards)
    if found.seen is not None and rows.trace is not None:
        found.seen.put(done, rows.trace.seen.keep(done))
