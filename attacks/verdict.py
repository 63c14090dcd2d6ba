"""The verdict: an attack that spends passes on a row for as long as they may still change the answer, and no longer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from itertools import cycle, islice
from typing import Literal, get_args

import torch
from torch import Tensor

from . import losses
from .ascents import BROAD, DENSE, PLAN, ascent, at_best, long_ascents, scattered, smoothing, towards
from .card import Card, card_of
from .doubts import Doubt
from .errors import InputError, unknown
from .gradient.pieces import Coarse, Start, at_input, at_random, start_named
from .gradient.rival import by_nearness
from .loop import Attack, Search, in_turn
from .patchwork import patchwork
from .prospects import blinded, close, flat, hopeless, is_stop, near, out_of_reach, settled, suspect
from .rows import Rows
from .score.square import Square, SquareStart
from .victim import gradient

Effort = Literal["quick", "standard", "exhaustive"]

QUICK, LOOK, ROUND = (11, 11), (10, 20), (12, 20)  # steps of an ascent; in L1
MEANS = ((4, 1.0), (8, 0.5), (16, 0.5))  # gradients in a mean; the share of the noise, and of eps the first step's
AVERAGES = ((at_input, 16), (at_best, 32))  # of a random model: where ascents set out from; gradients in a mean
SMALL = 0.1  # of the numbers, in the first changes of a search that goes on from where ascents came
RIVALS = 9  # wrong classes that are ranked by how near they are
BEYOND = (2.0, 1.0)  # eps that a row wants still, in units of eps, to be let go of after the look, after a round
LONG = 60  # steps of a long ascent
NEARER = (1.0, 0.5, 0.2)  # shares of what is near: rows within get a long ascent, another, a third
FINER, FINE = (1.0, 0.5, 0.25), 20  # shares of eps that ascents from the best point begin with; their steps
PROBE = 12  # queries without gradients, after the rounds
LUCK = 0.1  # of the way: what they may gain where gradients serve


class Stage(IntEnum):
    """The last stage that a row came to."""

    CLEAN = 0
    LOOK = 1  # one ascent from the input
    ROUNDS = 2  # ascents from far off, towards all rivals or one after the other
    SCATTERED = 3  # ascents along mean gradients
    SEARCH = 4  # no gradients
    CATALOGUE = 5  # every other attack that applies
    LONG = 6  # after the rounds, a long ascent; the numbers are those of saved audits


@dataclass(frozen=True)
class Verdict:
    """Short ascents of the margin, towards all rivals and then to those within reach in turn, while a row may yet fall.

    effort: "quick" is one ascent from the input: 13 forwards, 11 gradients. "standard" lets go of a row once its best
        point is far from the boundary and no rival is within reach of another ascent; rows that are near, or want
        little eps still, get long ones, more the nearer they are, and some from their best point. Rows on which
        gradients cannot be trusted get means of gradients strewn broadly and go on to a search without any, each for
        as long as it pays; those of a random model means of many. "exhaustive" lets go of nothing, and then runs
        `also`.
    rounds, queries: at most so many ascents, and queries of the search without gradients.
    also: attacks; those that are not made for the threat, the goal or the inputs are left out.
    start: where the first ascent sets out from (`attacks.Warm` gives it another attack's best proposal).

    The margin: arXiv 1608.04644; the nearness of rivals: 2407.02240. Shares of the way to the boundary make every rule
    free of the logits' scale. `Result.seen` says how far each row came, `doubts.doubts` what speaks against it.
    """

    effort: Effort = "standard"
    rounds: int = 9
    queries: int = 4000
    also: tuple[Attack, ...] = ()
    start: str | Start = "input"

    def __post_init__(self):
        start_named(self.start)
        if self.effort not in get_args(Effort):
            raise unknown("effort", self.effort, get_args(Effort))
        if self.rounds < 1 or self.queries < 1:
            raise InputError(f"rounds={self.rounds}, queries={self.queries}: at least one of each is needed.")

    @property
    def card(self) -> Card:
        return Card(norms=("linf", "l2", "l1"), eps="finite", watch=True)

    def search(self, rows: Rows) -> Search:
        rows.let_go(rows.threat.radius == 0)
        yield from self._look(rows)
        if self.effort == "quick":
            return
        yield from self._rounds(rows)
        yield from self._long(rows)
        yield from self._distrusting(rows)
        yield from self._catalogue(rows)

    def _look(self, rows: Rows) -> Search:
        """One ascent from the input, or from `start`."""
        _enter(rows, Stage.LOOK)
        yield from ascent(rows, start_named(self.start), *(QUICK if self.effort == "quick" else LOOK)).search(rows)

    def _rounds(self, rows: Rows) -> Search:
        """An ascent of a smoothed loss, then ascents towards the rivals that may be within reach, in turn.

        Rows without any gradient have nothing to ascend; those of a random model want means of many.
        """
        _enter(rows, Stage.ROUNDS)
        self._let_go(rows, out_of_reach(rows, BEYOND[0]))
        rows.ways = torch.ones_like(rows.trace.seen.lead)[:, None]  # one rival, until they are ranked
        yield from replace(ascent(rows, at_random, *ROUND), views=(smoothing(rows),)).search(rows)
        self._part(rows, flat(rows), self._without_gradients)
        self._part(rows, rows.trace.seen.random, self._on_average)
        self._let_go(rows, out_of_reach(rows, BEYOND[1]))
        self._settle(rows, 0)
        if not rows.goal.targeted:
            answer = yield gradient(rows.x, losses.margin)
            rows.rivals, rows.ways = by_nearness(answer, rows, RIVALS)
        tried = 0
        for start, rival, sparse in islice(cycle(PLAN), self.rounds - 1):
            yield from towards(rows, rival, ascent(rows, start, *ROUND, sparse))
            tried = max(tried, 0 if rival is None else rival + 1)
            self._settle(rows, tried)
        yield from _probe(rows)

    def _settle(self, rows: Rows, tried: int) -> None:
        """Lets go of rows with no rival within reach; those to which a little more eps would do get long ascents."""
        self._part(rows, settled(rows, tried) & close(rows), self._long)
        self._let_go(rows, settled(rows, tried))

    def _long(self, rows: Rows) -> Search:
        """Ascents of more steps, which end higher, the more the nearer a row is; then from its best point."""
        for share, climb in zip(NEARER, long_ascents(rows, LONG), strict=True):
            self._part(rows, suspect(rows), self._distrusting)
            self._let_go(rows, ~near(rows, share) & ~close(rows, share))
            _enter(rows, Stage.LONG)
            yield from climb.search(rows)
        self._let_go(rows, ~suspect(rows) & ~near(rows) & ~close(rows))
        for share in FINER:
            yield from replace(DENSE, start=at_best, share=share, steps=FINE).search(rows)
        self._let_go(rows, ~suspect(rows))

    def _distrusting(self, rows: Rows) -> Search:
        """Mean gradients, then queries without any."""
        yield from in_turn(rows, [self._along_means, self._beyond_means])

    def _along_means(self, rows: Rows) -> Search:
        """Ascents along means of more and more gradients, for as long as another gain like the last would do."""
        for copies, share in MEANS:
            rows.since = rows.trace.seen.lead
            yield from _strewn(rows, scattered(rows, at_best, copies=copies, noise=BROAD, share=share))
            self._let_go(rows, 2 * rows.trace.seen.lead <= rows.since)
        yield from replace(DENSE, start=at_best, share=FINER[-1], steps=FINE).search(rows)

    def _beyond_means(self, rows: Rows) -> Search:
        """Queries without gradients, of blind rows after mean gradients from elsewhere."""
        self._part(rows, rows.trace.seen.random, self._on_average)
        self._part(rows, ~blinded(rows), partial(self._without_gradients, first_share=SMALL))
        for start in (at_input, Coarse(5), at_random):
            yield from _strewn(rows, scattered(rows, start))
        if self.effort == "exhaustive":
            yield from self._on_average(rows)
        yield from self._without_gradients(rows)

    def _on_average(self, rows: Rows) -> Search:
        """Of a random model: means of many gradients, and no queries without any."""
        for start, copies in AVERAGES:
            yield from _strewn(rows, scattered(rows, start, ROUND[0], copies))

    def _without_gradients(self, rows: Rows, first_share: float = Square.first_share) -> Search:
        """For as long as there is hope for the rest of the way; blind rows to which it is short, once more."""
        _enter(rows, Stage.SEARCH)
        search, answer = _blind(rows, self.queries, first_share=first_share), None
        rows.since = rows.trace.seen.lead
        for asked in range(self.queries):
            answer = yield next(search) if answer is None else search.send(answer)
            if is_stop(asked):
                self._let_go(rows, hopeless(rows, asked, self.queries))
                rows.since = rows.trace.seen.lead
        _note(rows, Doubt.STILL_FINDING, rows.trace.seen.lead > rows.since)
        self._let_go(rows, ~(blinded(rows) & near(rows)))
        rows.since = rows.trace.seen.lead
        yield from _blind(rows, self.queries, start=None)
        _note(rows, Doubt.STILL_FINDING, rows.trace.seen.lead > rows.since)
        _clear(rows)

    def _catalogue(self, rows: Rows) -> Search:
        if self.effort != "exhaustive":
            return
        _enter(rows, Stage.CATALOGUE)
        yield from in_turn(rows, [attack.search for attack in self.also if card_of(attack).fits(rows)])

    def _let_go(self, rows: Rows, which: Tensor) -> None:
        self._part(rows, which, None)

    def _part(self, rows: Rows, which: Tensor, search: Callable[[Rows], Search] | None) -> None:
        _clear(rows)
        if self.effort == "standard":
            rows.part(which, search)


# -- without gradients --


def _best_or_none(rows: Rows) -> tuple[Tensor, Tensor]:
    """[b, ...] the best points, and [b] bool which of them are no better than the inputs."""
    return at_best(rows), rows.trace.seen.lead <= rows.trace.seen.first


def _blind(
    rows: Rows, queries: int, start: SquareStart | None = _best_or_none, first_share: float = Square.first_share
) -> Search:
    """Random search: Square on images; on other inputs a patchwork, which begins with the best point."""
    if rows.x.ndim == 4:
        return Square(queries, first_share, start).search(rows)
    return patchwork(rows, queries, first_share)


def _probe(rows: Rows) -> Search:
    """A few queries without gradients, which find more where gradients mislead."""
    rows.since = rows.trace.seen.lead
    search, answer = _blind(rows, 1000), None
    for _ in range(PROBE):
        answer = yield next(search) if answer is None else search.send(answer)
    gained = rows.trace.seen.lead - rows.since
    _note(rows, Doubt.BLACK_BOX_AHEAD, gained > LUCK * (rows.since - rows.trace.seen.first).clamp_min(0))


# -- what is noted on the way --


def _strewn(rows: Rows, ascent: Attack) -> Search:
    _enter(rows, Stage.SCATTERED)
    yield from ascent.search(rows)
    _clear(rows)


def _enter(rows: Rows, stage: Stage) -> None:
    seen = rows.trace.seen
    entered = torch.full_like(seen.stage, int(stage))
    seen.stage = torch.where(rows.leaving, seen.stage, entered)


def _clear(rows: Rows) -> None:
    """What this attack shows outside the threat set, it shows there on purpose: that is no straying."""
    rows.trace.seen.strayed = torch.zeros_like(rows.trace.seen.strayed)


def _note(rows: Rows, doubt: Doubt, where: Tensor) -> None:
    rows.trace.seen.noted = rows.trace.seen.noted | (int(doubt) * where)
