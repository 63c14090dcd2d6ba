"""What does a model say on the plane through an example, spanned by two others?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import api
from ..errors import InputError
from ..norms import TINY
from ..passes.tape import AT_ONCE
from ..threat import Goal, ThreatModel
from ..victim import Access, Victim, borrowed

SIDE = 400  # points a side
COARSE = 100  # of them are asked first, at least
ROOM = 1.3  # side of the square over what its three points need


@dataclass(frozen=True)
class Plane:
    """A square of side x side points; row 0 is at the bottom. Positions are in L2 units from the example, before any
    clamping: the first points along `across`, the second along `up`."""

    classes: Tensor  # [side, side] int64
    margin: Tensor  # [side, side] float32 the label's logit less the largest other one: below 0 another class wins
    asked: Tensor  # [side, side] bool: the model answered there; elsewhere the nearest answers agree, and are averaged
    size: Tensor  # [side, side], as x, the norm of the perturbation: its contour at eps is the ball
    marks: Tensor  # [3, 2] float64 where the example, the first and the second point are
    extent: tuple[float, float, float, float]  # left, right, bottom, top: of the outermost points
    across: Tensor  # [...] float64 unit vectors
    up: Tensor
    queries: int  # forward passes: one for each point asked


def plane(
    victim: nn.Module | Victim,
    x: Tensor,
    label: int,
    first: Tensor,
    second: Tensor,
    threat: str | ThreatModel = "l2:inf",
    *,
    side: int = SIDE,
    reach: float | None = None,
    batch_size: int | None = None,
) -> Plane:
    """The class map and the margin round one example x [...], on the plane through it, `first` and `second` [...].

    x is at (0, 0), `first` to its right, `second` above. Points beyond the bounds are clamped to them, so that whatever
    is shown is an input; with infinite bounds the plane is flat.
    Where there are 200 points a side or more, every second, third ... of them is asked first, then all those in squares
    whose corners, or whose neighbours' corners, differ in class or lead by less than their leads differ. What lies in
    the other squares is interpolated: a speck of another class that is smaller than such a square may be missed.
    threat: the norm of `size`, and the bounds.
    side: points a side.
    reach: the square goes so far (in L2) to each side of x; None: it holds all three points.
    batch_size: points at a time; the result does not depend on it.

    Raises AccessError where the victim reveals no scores; InputError where the three points lie on a line, or the
    input cannot be used.
    """
    victim = victim if isinstance(victim, Victim) else Victim(victim)
    victim.check(Access.SCORES)
    threat = api.as_threat(threat)
    _check(x, first, second, side, reach, batch_size)
    across, up, marks = _axes(x, first, second)
    extent = _extent(marks) if reach is None else (-reach, reach, -reach, reach)
    device = api.device_of(victim.model, x.device)
    base = threat.around(x[None].to(device))
    size = batch_size or max(32, AT_ONCE // x.numel())
    grid = _grid(extent, side).to(base.x)
    axes = torch.stack((across.flatten(), up.flatten())).to(base.x)

    def points(at: Tensor) -> Iterator[Tensor]:
        """Those [k] of the grid, some [c, d] at a time."""
        for part in grid[at].split(size):
            point = torch.addcmul(base.x.flatten(1), part[:, :1], axes[0]).addcmul_(part[:, 1:], axes[1])
            yield torch.clamp(point, base.least, base.most, out=point)

    def ask(asked: Tensor) -> Told:
        """There [side, side] bool."""
        some = (victim.logits(point.view(-1, *x.shape)) for point in points(asked.flatten().nonzero().squeeze(1)))
        return Told(*(torch.cat(column) for column in zip(*(_told(each, label) for each in some), strict=True)))

    with borrowed(victim.model):
        squares = Squares.of(side, side // COARSE, device)
        asked = squares.corners()
        told = ask(asked)
        classes, margin = squares.spread(told)
        near = squares.inside(_in_doubt(told, len(squares.marks))) & ~asked
        if near.any():
            more = ask(near)
            classes[near], margin[near] = more.classes, more.margin
    everywhere = torch.arange(side * side, device=device)
    moved = torch.cat([threat.norm.size(point - base.x.flatten(1)) for point in points(everywhere)]).view(side, side)
    asked = asked | near
    return Plane(
        *(classes.to(x.device), margin.to(x.device), asked.to(x.device), moved.to(x.device)),
        *(marks, extent, across, up, int(asked.sum())),
    )


class Told(NamedTuple):
    """What the model said at k points."""

    classes: Tensor  # [k] int64
    margin: Tensor  # [k]
    lead: Tensor  # [k] of the class that leads over the next


@dataclass(frozen=True)
class Squares:
    """The plane cut into squares, whose corners lie at some of its points."""

    marks: Tensor  # [k] int64 the rows, and the columns, of the corners
    square: Tensor  # [side] int64 in which of the k - 1 squares a row or a column lies
    weights: Tensor  # [side, k] of the corners, by which a row or a column is interpolated

    @classmethod
    def of(cls, side: int, apart: int, device: torch.device) -> "Squares":
        at = torch.arange(side, device=device)
        marks = torch.cat([at[:: max(1, apart)], at[-1:]]).unique()
        square = (torch.searchsorted(marks, at, right=True) - 1).clamp_max(len(marks) - 2)
        share = (at - marks[square]) / (marks[square + 1] - marks[square])
        weights = torch.zeros(side, len(marks), device=device)
        weights[at, square], weights[at, square + 1] = 1 - share, share
        return cls(marks, square, weights)

    def corners(self) -> Tensor:
        """[side, side] bool"""
        line = torch.zeros(len(self.square), dtype=torch.bool, device=self.marks.device)
        line[self.marks] = True
        return line[:, None] & line

    def inside(self, chosen: Tensor) -> Tensor:
        """[side, side] bool: the points in squares [k - 1, k - 1] bool."""
        return chosen[self.square][:, self.square]

    def spread(self, told: Told) -> tuple[Tensor, Tensor]:
        """Classes and margins [side, side], from those of the corners; at the corners they are what was told."""
        classes, margin = (each.view(len(self.marks), -1) for each in (told.classes, told.margin))
        corners, classes = self.corners(), self.inside(classes)
        everywhere = self.weights @ margin.nan_to_num() @ self.weights.T
        classes[corners], everywhere[corners] = told.classes, told.margin
        return classes, everywhere


def _in_doubt(told: Told, count: int) -> Tensor:
    """[count - 1, count - 1] bool: squares where the class may change, and those around them."""
    classes, lead = (_at_corners(each.view(count, count)) for each in (told.classes, told.lead))
    changes = (classes != classes[0]).any(0)
    sure = lead.amin(0) > lead.amax(0) - lead.amin(0)
    return nn.functional.max_pool2d((changes | ~sure).float()[None, None], 3, stride=1, padding=1)[0, 0].bool()


def _at_corners(values: Tensor) -> Tensor:
    """[k, k] -> [4, k - 1, k - 1]: of each square."""
    return torch.stack([values[:-1, :-1], values[:-1, 1:], values[1:, :-1], values[1:, 1:]])


def _told(logits: Tensor, label: int) -> Told:
    labels = torch.full((len(logits),), label, device=logits.device)
    Goal(labels).check(len(logits), logits.shape[1])
    full = logits.float()
    own = full.gather(1, labels[:, None]).squeeze(1)
    best, second = full.topk(2).values.unbind(1)
    return Told(full.argmax(1), own - full.scatter(1, labels[:, None], -torch.inf).amax(1), best - second)


def _axes(x: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two orthogonal unit vectors [...] float64, and the positions [3, 2] of x, first and second along them."""
    to_first, to_second = (point.double() - x.double() for point in (first, second))
    length = to_first.norm()
    across = to_first / length.clamp_min(TINY)
    shared = (to_second * across).sum()
    aside = to_second - shared * across
    height = aside.norm()
    if float(length) < TINY or float(height) < 1e-6 * float(to_second.norm()) or float(height) < TINY:
        raise InputError("The three points lie on a line and span no plane: give a second one that lies aside.")
    marks = torch.tensor([[0, 0], [float(length), 0], [float(shared), float(height)]], dtype=torch.float64)
    return across, aside / height, marks


def _extent(marks: Tensor) -> tuple[float, float, float, float]:
    """The square round the marks."""
    low, high = marks.amin(0), marks.amax(0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2 * ROOM
    left, bottom = (middle - half).tolist()
    right, top = (middle + half).tolist()
    return left, right, bottom, top


def _grid(extent: tuple[float, float, float, float], side: int) -> Tensor:
    """[side * side, 2] positions, row by row from the bottom."""
    left, right, bottom, top = extent
    xs = torch.linspace(left, right, side, dtype=torch.float64)
    ys = torch.linspace(bottom, top, side, dtype=torch.float64)
    return torch.stack((xs.repeat(side), ys.repeat_interleave(side)), 1)


def _check(x: Tensor, first: Tensor, second: Tensor, side: int, reach: float | None, batch_size: int | None) -> None:
    api.check_inputs(x[None], None, batch_size)
    for point in (first, second):
        if point.shape != x.shape or not bool(point.isfinite().all()):
            raise InputError(
                f"A point that spans the plane is {tuple(point.shape)}; finite values shaped like x, {tuple(x.shape)}, "
                "are needed."
            )
    if side < 2 or not (reach is None or 0 < reach < float("inf")):
        raise InputError(f"side={side}, reach={reach}: at least 2 points a side and a positive reach are needed.")
