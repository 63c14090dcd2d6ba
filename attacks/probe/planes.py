"""What does a model say on the plane through an example, spanned by two others?"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import api
from ..errors import InputError
from ..norms import TINY
from ..passes.tape import AT_ONCE
from ..threat import Goal, ThreatModel
from ..victim import Access, Victim, borrowed

SIDE = 400  # points a side
ROOM = 1.3  # side of the square over what its three points need


@dataclass(frozen=True)
class Plane:
    """A square of side x side points; row 0 is at the bottom. Positions are in L2 units from the example, before any
    clamping: the first points along `across`, the second along `up`."""

    classes: Tensor  # [side, side] int64
    margin: Tensor  # [side, side] float32 the label's logit less the largest other one: below 0 another class wins
    size: Tensor  # [side, side], as x, the norm of the perturbation: its contour at eps is the ball
    marks: Tensor  # [3, 2] float64 where the example, the first and the second point are
    extent: tuple[float, float, float, float]  # left, right, bottom, top: of the outermost points
    across: Tensor  # [...] float64 unit vectors
    up: Tensor
    queries: int  # forward passes: one per point


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
    columns = []
    with borrowed(victim.model):
        for part in grid.split(size):
            point = torch.addcmul(base.x.flatten(1), part[:, :1], axes[0]).addcmul_(part[:, 1:], axes[1])
            point = torch.clamp(point, base.least, base.most, out=point)
            logits = victim.logits(point.view(-1, *x.shape))
            moved = threat.norm.size(point - base.x.flatten(1))
            columns.append(_told(logits, label, moved))
    classes, margin, moved = (torch.cat(column).view(side, side).to(x.device) for column in zip(*columns, strict=True))
    return Plane(classes, margin, moved, marks, extent, across, up, side * side)


def _told(logits: Tensor, label: int, moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    labels = torch.full((len(logits),), label, device=logits.device)
    Goal(labels).check(len(logits), logits.shape[1])
    full = logits.float()
    own = full.gather(1, labels[:, None]).squeeze(1)
    return full.argmax(1), own - full.scatter(1, labels[:, None], -torch.inf).amax(1), moved


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
