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
    at_input,
    at_random,
    far_off,
)
from .loop import Attack, Search
from .rows import Rows
from .threat import Goal

LOSS = "soft_margin"  # towards one rival it is the margin
DENSE = GradientAscent(LOSS, Steepest(), share=1.0, steps=10, schedule="cosine")
NOISE, FADED = {"linf": 0.3, "l2": 3.0, "l1": 1.0}, 0.03  # share of eps, at first; what is left of it in the end
BROAD = {"linf": 2.0, "l2": 3.0, "l1": 1.0}  # the same, where gradients mislead
WIDE = 30  # steps in L1, of an ascent that begins in a wider ball
COPIES = 4  # gradients in a mean


def ascent(rows: Rows, start: Start, steps: int, in_l1: int) -> GradientAscent | APGD:
    """In L2 and L1, from random points, on a smoothed loss.

    In L1 all coordinates move, or, from a coarse start, few of them in a ball that is wider at first (APGD).
    """
    if rows.threat.norm.name == "linf":
        return replace(DENSE, start=start, steps=steps)
    views = (smoothing(rows),) if start is at_random else ()
    if rows.threat.norm.name == "l2":
        return replace(DENSE, start=start, steps=steps, views=views)
    if isinstance(start, Coarse):
        return APGD(WIDE, LOSS, start)
    return replace(DENSE, start=start, steps=in_l1, views=views, direction=Proportional(), share=0.3)


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


PLAN: tuple[tuple[Start, int | None], ...] = (  # where an ascent sets out from, and to which of the rivals
    (Coarse(5), 0),
    (at_random, 1),
    (Coarse(5), 2),
    (at_random, 3),
    (Coarse(5), 4),
    (at_random, 5),
    (Coarse(9), None),
    (at_random, 6),
    (beside_best, None),
    (at_random, 7),
    (far_off, None),
    (at_random, 8),
)
