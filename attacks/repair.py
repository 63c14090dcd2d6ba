"""From a perturbation found between the levels to one on the grid: rounding inside the ball, and repair."""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import losses
from .card import Card
from .errors import InputError
from .loop import Search
from .norms import TINY, row_norm, row_sum
from .rows import Rows
from .victim import Access, Answer, decision, gradient

HALVINGS = 30  # of the bracket round a multiplier or a scale
STRETCHES = (1.0, 1.02, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 3.0)  # of the perturbation, where gradients are not seen
SPARE = 0.8  # of what a row has to spare, given up at a step
MEMORY = 0.75  # of the mean gradient at each step: what is rounded would else jump from one to the next
GROWTH = 1.5  # of what is asked for beyond the boundary, at each step that did not get there
HAIR = 1e-4  # of the largest logit: what the linearised margin must gain at least


@dataclass(frozen=True)
class Repair:
    """Rounds what an attack found to whole levels and mends, by moves of a level, what rounding broke.

    found: [B, ...], one point per row that the attack is run on. Rounding is to the nearest level; where that leaves
        the ball, the perturbation is shrunk until its rounding does not. Then, at each step, the margin is linearised:
        of all points a level or less away, in each coordinate, the one is taken that is smallest among those beyond
        the boundary (in L2 the rounding of a multiple of the gradient, cut to a level), or, where none within the ball
        is beyond it, the one that comes nearest. A row that is fooled goes on in a ball that its best point is just
        outside of; so with until="smallest" the perturbation shrinks.
    access: below GRADIENT, the perturbation is only stretched along itself, within the ball; at GRADIENT that is the
        last resort.

    Needs a threat with levels.
    """

    found: Tensor
    access: Access = Access.GRADIENT
    steps: int = 20

    @property
    def card(self) -> Card:
        return Card(access=Access.DECISION if self.access < Access.GRADIENT else self.access)

    def search(self, rows: Rows) -> Search:
        levels = rows.threat.levels
        if levels is None:
            raise InputError("Repair works on a grid, and the threat has none: give ThreatModel(..., levels=255).")
        rows.wanted = ((self.found[rows.index] - rows.x) * levels).flatten(1)
        if self.access == Access.GRADIENT:
            yield from self._descend(rows)
        for stretch in STRETCHES:
            yield decision(_shown(rows, rounded(rows, rows.wanted * stretch)))

    def _descend(self, rows: Rows) -> Search:
        rows.moved = rounded(rows, rows.wanted)
        rows.best = torch.full_like(rows.threat.eps, torch.inf)
        rows.box = _cost(rows, rows.moved)
        rows.push = torch.ones_like(rows.threat.radius)
        rows.slope = torch.zeros_like(rows.moved)
        for step in range(self.steps + 1):
            answer = yield gradient(_shown(rows, rows.moved), losses.margin)
            rows.best = torch.where(answer.fooled, torch.minimum(rows.best, _cost(rows, rows.moved)), rows.best)
            if step < self.steps:
                rows.moved = _next(rows, answer)
        rows.let_go(rows.best.isfinite())


def rounded(rows: Rows, wanted: Tensor) -> Tensor:
    """[b, d] whole levels: the rounding of wanted [b, d], shrunk as far as it takes to be inside the set."""
    low, high = _box(rows)
    allowed = _allowed(rows)
    nearest = wanted.round().clamp(low, high)
    inside = _cost(rows, nearest) <= allowed
    shortest, longest = torch.zeros_like(allowed), torch.ones_like(allowed)
    for _ in range(0 if bool(inside.all()) else HALVINGS):
        middle = (shortest + longest) / 2
        fits = _cost(rows, (wanted * middle[:, None].to(wanted.dtype)).round().clamp(low, high)) <= allowed
        shortest, longest = torch.where(fits, middle, shortest), torch.where(fits, longest, middle)
    scale = torch.where(inside, 1.0, shortest).to(wanted.dtype)
    return (wanted * scale[:, None]).round().clamp(low, high)


def _next(rows: Rows, answer: Answer) -> Tensor:
    """[b, d] whole levels: the next point to show."""
    assert answer.logits is not None
    grad, margin = answer.grad().flatten(1) / (rows.threat.levels or 1), answer.loss  # per level
    hair = HAIR * answer.logits.abs().amax(1).to(margin.dtype)
    rows.push = torch.where(answer.fooled, 1.0, rows.push * GROWTH)
    need = torch.where(answer.fooled, -SPARE * margin, rows.push * (margin.clamp_max(0).abs() + hair)).to(grad.dtype)
    rows.slope = rows.slope * MEMORY + grad / row_norm(grad).clamp_min(TINY)[:, None] * (1 - MEMORY)
    allowed = torch.minimum(_allowed(rows), rows.best - 1)
    rows.box = torch.minimum(rows.box, allowed)
    moved = _smallest(rows, grad, need, allowed)
    short = row_sum(grad * (moved - rows.moved)) < need
    rows.box = torch.where(short & (rows.box < allowed), rows.box + 1, rows.box)
    return moved


def _smallest(rows: Rows, grad: Tensor, need: Tensor, allowed: Tensor) -> Tensor:
    """[b, d]: of the points that are near, the smallest that gains what is needed [b]; where none may, the best.

    Gain and cost both rise with the multiplier of the slope, so it is bracketed between two neighbours: `much` gains
    enough or costs too much, `little` does neither.
    """
    unit = -torch.log2(rows.slope.abs().amax(1).clamp_min(TINY)).double()
    little, much = unit - 12, unit + 30
    for _ in range(HALVINGS):
        middle = (little + much) / 2
        moved = _towards(rows, middle)
        far = (_cost(rows, moved) > allowed) | (row_sum(grad * (moved - rows.moved)) >= need)
        little, much = torch.where(far, little, middle), torch.where(far, middle, much)
    moved = _towards(rows, much)
    return torch.where((_cost(rows, moved) > allowed)[:, None], _towards(rows, little), moved)


def _towards(rows: Rows, exponent: Tensor) -> Tensor:
    """[b, d]: of the points a level or less from rows.moved the one that gains most for its size.

    exponent: [b] float64; 2 to it is the gain along rows.slope that a level of size is worth.
    """
    grad = rows.slope
    name, pull = rows.threat.norm.name, grad * (2**exponent).to(grad.dtype)[:, None]
    if name == "l2":  # the least of d^2 - 2 pull d over whole d
        to = pull.round()
    elif name == "linf":
        free = rows.moved + grad.sign() * (pull.abs() > 1)
        to = free.clamp(-rows.box[:, None], rows.box[:, None]).to(grad.dtype)
    elif name == "l1":
        to = torch.where(pull.abs() > 1, rows.moved + grad.sign(), 0.0)
    else:
        to = torch.where(pull.abs() > 1, rows.moved + grad.sign(), rows.moved)
        to = torch.where(rows.moved == 0, 0.0, to)
    low, high = _box(rows)
    near = to if name == "linf" else to.clamp(rows.moved - 1, rows.moved + 1)
    return near.clamp(low, high)


def _cost(rows: Rows, moved: Tensor) -> Tensor:
    """[b] float64: the size of a perturbation in whole levels, in L2 squared."""
    size = rows.threat.norm.size(moved.double())
    return (size * size).round() if rows.threat.norm.name == "l2" else size


def _allowed(rows: Rows) -> Tensor:
    """[b] float64: the largest cost inside the ball."""
    threat = rows.threat
    if threat.norm.name == "l0":
        return threat.eps.floor()
    radius = threat.eps * (threat.levels or 1)
    return ((radius * radius if threat.norm.name == "l2" else radius) + 1e-9).floor()


def _box(rows: Rows) -> tuple[Tensor, Tensor]:
    """[b, d] each: the least and the most whole levels that a coordinate may move within bounds and mask."""
    levels = rows.threat.levels or 1
    x = rows.x.flatten(1) * levels
    low, high = rows.threat.low * levels, rows.threat.high * levels
    return (low - x - 1e-3).ceil(), (high - x + 1e-3).floor()


def _shown(rows: Rows, moved: Tensor) -> Tensor:
    levels = rows.threat.levels or 1
    return (((rows.x.flatten(1) * levels).round() + moved).clamp(0, levels) / levels).view_as(rows.x)
