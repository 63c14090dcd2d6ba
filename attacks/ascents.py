"""The ascents that a verdict is made of: where they set out from, to which rival, and what smooths the loss."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from .gradient.apgd import APGD
from .gradient.pgd import GradientAscent
from .gradient.pieces import (
    Coarse,
    Proportional,
    Scattered,
    Start,
    Steepest,
    View,
    at_input,
    at_random,
    far_off,
)
from .loop import Attack, Search
from .rows import Rows
from .threat import Goal

LOSS = "soft_margin"  # towards one rival it is the margin
DENSE = GradientAscent(LOSS, Steepest(), share=1.0, steps=10, schedule="cosine")
SHARE = {"linf": 1.0, "l2": 3.0, "l1": 0.3}  # of eps, the first step: in L2 the ball takes most of it back
NOISE, FADED = {"linf": 0.3, "l2": 3.0, "l1": 1.0}, 0.03  # share of eps, at first; what is left of it in the end
BROAD = {"linf": 2.0, "l2": 3.0, "l1": 1.0}  # the same, where gradients mislead
WIDE = 30  # steps in L1, of an ascent that begins in a wider ball
COPIES = 4  # gradients in a mean


def ascent(rows: Rows, start: Start, steps: int, in_l1: int, sparse: bool = False) -> GradientAscent | APGD:
    """In L2 and L1, from random points, on a smoothed loss.

    sparse: in L1 few coordinates move, in a ball that is wider at first (APGD); else all of them do.
    """
    norm = rows.threat.norm.name
    if norm == "l1" and sparse:
        return APGD(WIDE, LOSS, start)
    smooth = norm != "linf" and (start is at_random or isinstance(start, Coarse))
    return _dense(rows, start, in_l1 if norm == "l1" else steps, (smoothing(rows),) if smooth else ())


def long_ascents(rows: Rows, steps: int) -> tuple[Attack, ...]:
    """One that adapts its steps and shows whether gradients mislead; two on a smoothed loss, which get further."""
    smoothed = (_dense(rows, start, steps, (smoothing(rows),)) for start in (Coarse(5), at_random))
    return APGD(steps, LOSS, at_random), *smoothed


def _dense(rows: Rows, start: Start, steps: int, views: tuple[View, ...]) -> GradientAscent:
    direction = Proportional() if rows.threat.norm.name == "l1" else Steepest()
    return replace(
        DENSE, start=start, steps=steps, views=views, direction=direction, share=SHARE[rows.threat.norm.name]
    )


def scattered(
    rows: Rows,
    start: Start = at_input,
    steps: int = DENSE.steps,
    copies: int = COPIES,
    noise: Mapping[str, float] = NOISE,
    share: float = 1.0,
) -> GradientAscent:
    """Along mean gradients, which lead over what is rough.

    share: of the noise, and of eps, the first step's.
    """
    return replace(DENSE, start=start, steps=steps, views=(smoothing(rows, copies, noise, share),), share=share)


def smoothing(rows: Rows, copies: int = 1, noise: Mapping[str, float] = NOISE, share: float = 1.0) -> Scattered:
    """A loss that grows sharp again leads past what masks gradients near the input."""
    return Scattered(copies, share * noise[rows.threat.norm.name], FADED)


def towards(rows: Rows, rival: int | None, attack: Attack) -> Search:
    """To one of the nearest rivals, or to whichever is ahead."""
    if rival is not None and not rows.goal.targeted:
        labels = rows.rivals[:, min(rival, rows.rivals.shape[1] - 1)]
        rows.aim = Goal(labels, targeted=True, versus=rows.goal.labels)
    yield from attack.search(rows)
    rows.aim = rows.goal


def at_best(rows: Rows) -> Tensor:
    """The best point so far."""
    return rows.trace.best


def beside_best(rows: Rows) -> Tensor:
    """A quarter of the way from the best point to a far-off one."""
    best = at_best(rows)
    return rows.threat.project(best + (far_off(rows) - best) * 0.25)


PLAN: tuple[tuple[Start, int | None, bool], ...] = (  # where an ascent sets out from, to which rival, sparse or not
    (Coarse(5), 0, False),
    (at_random, 1, False),
    (Coarse(5), 2, True),
    (at_random, 3, False),
    (Coarse(5), 4, False),
    (at_random, 5, False),
    (Coarse(9), None, True),
    (at_random, 6, False),
    (beside_best, None, False),
    (at_random, 7, False),
    (far_off, None, False),
    (at_random, 8, False),
)
