"""Where may each example of a batch go, which way from a point, and is a candidate there?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import kernels
from .columns import PerRow
from .errors import InputError
from .images import window
from .norms import L2, TINY, Linf, Norm

Bound = float | Tensor


@dataclass
class ThreatSet(PerRow):
    """A threat model laid round each of b examples. All methods take and give [b, ...] shaped like x."""

    norm: Norm
    x: Tensor  # [b, ...] clean
    eps: Tensor  # [b] float64, as given
    radius: Tensor  # [b] in the type of x: eps less a hair, lest rounding carry a candidate out; at most the box's own
    low: Tensor  # [b, d] the least each coordinate may be: bounds, mask and, for L-inf, the ball
    high: Tensor  # [b, d]
    mask: Tensor | None  # [b, d]
    levels: int | None
    least: Tensor  # [b, d] the bounds and the mask alone: what a search may show on its way to the ball
    most: Tensor  # [b, d]
    unit: Tensor | None = None  # [b, d]: in a box without a ball, how far L-inf moves each coordinate, of the widest

    @classmethod
    def around(
        cls,
        x: Tensor,
        norm: Norm,
        eps: float | Tensor,
        bounds: tuple[Bound, Bound],
        mask: Tensor | None,
        levels: int | None,
    ) -> "ThreatSet":
        """What a threat model of these says (see ThreatModel) of each row of x [b, ...]."""
        flat = x.flatten(1)
        eps = torch.as_tensor(eps, dtype=torch.float64, device=x.device)
        check_eps(eps, len(x))
        eps = eps.expand(len(x)).contiguous()
        low, high = (_laid_over(bound, x, "bounds") for bound in bounds)
        _check_inside(flat, low, high, bounds)
        mask = None if mask is None else _laid_over(mask, x, "mask")
        if mask is not None:
            low, high = torch.where(mask == 0, flat, low), torch.where(mask == 0, flat, high)
        least, most = low.contiguous(), high.contiguous()
        reach = eps
        if levels is not None:
            _check_on_grid(flat, levels)
            # Half a level beyond the last whole one: truncation then lands on that one and not before it.
            reach = ((eps * levels + 1e-9).floor() + 0.5) / levels
        if isinstance(norm, Linf):
            low = torch.maximum(low, _furthest(flat, reach, -1))
            high = torch.minimum(high, _furthest(flat, reach, +1))
        radius = _rounded_down((eps - norm.hair(flat, eps)).maximum(eps / 2), x.dtype)
        unit = None
        if bool(eps.isinf().any()):
            room = torch.maximum(high - flat, flat - low)
            corner = norm.size(room.masked_fill(room > torch.finfo(x.dtype).max / 4, torch.inf))
            radius = torch.where(eps.isinf(), corner, radius)
            if isinstance(norm, Linf):
                unit = torch.where(eps.isinf()[:, None], room / corner.clamp_min(TINY)[:, None], 1.0)
        low, high = (least, most) if not isinstance(norm, Linf) else (low, high)
        return cls(norm, x, eps, radius, low, high, mask, levels, least, most, unit)

    def step(self, x_adv: Tensor, direction: Tensor, length: Tensor, progress: float = 1.0) -> Tensor:
        """From x_adv the steepest move along `direction` of size `length` [b], back into the set.

        progress: share of the search that is over; L1 moves fewer coordinates at a time as it grows.
        """
        flat = direction.flatten(1)
        if self.mask is not None:
            flat = flat * self.mask
        x, low, high = self.x.flatten(1), self.low, self.high
        if self.unit is not None:
            return kernels.step_linf(x_adv.flatten(1), flat, length, low, high, self.unit).view_as(self.x)
        moved = self.norm.step(x, x_adv.flatten(1), flat, length, self.radius, low, high, progress)
        return moved.view_as(self.x)

    def ascend(
        self,
        x_adv: Tensor,
        before: Tensor,
        direction: Tensor,
        length: Tensor,
        inertia: float,
        better: Tensor,
        best: tuple[Tensor, Tensor],
    ) -> Tensor:
        """In L-inf and L2, `step`, of which a share `inertia` gives way to the last move, from `before` to x_adv.

        better, best: in place, x_adv and the direction become the best in the rows [b] bool that are better. The best
            are contiguous, and nobody else's.
        """
        flat = direction.flatten(1)
        if self.mask is not None:
            flat = flat * self.mask
        points, grads = (each.reshape(len(each), -1) for each in best)
        state = (x_adv.flatten(1), before.flatten(1), flat, better, points, grads, length)
        if isinstance(self.norm, Linf):
            return kernels.ascend_linf(*state, self.low, self.high, self.unit, inertia).view_as(self.x)
        assert isinstance(self.norm, L2)
        moved = kernels.ascend_l2(self.x.flatten(1), *state, self.radius, self.low, self.high, inertia)
        return moved.view_as(self.x)

    def recoloured(self, x_adv: Tensor, corner: Tensor, side: int, colour: Tensor) -> Tensor:
        """In L-inf, images [b, C, H, W]: x_adv with x + colour [b, C] in a square of that side, back in the set.

        Where it has that there already, with x - colour. corner: [b, 2] in [0, 1), how far down and to the right the
        square lies of how far it can.
        """
        assert isinstance(self.norm, Linf)
        channels, height, width = self.x.shape[1:]
        here = window(corner[:, 0], corner[:, 1], side, height, width).expand(-1, channels, -1)
        x, now, low, high = (
            each.reshape(-1, channels, height * width).gather(2, here) for each in (self.x, x_adv, self.low, self.high)
        )
        painted = (x + colour[:, :, None]).clamp(low, high)
        colour = torch.where((painted == now).flatten(1).all(1, keepdim=True), -colour, colour)
        return kernels.recolour(self.x, x_adv, corner, side, colour, self.low, self.high)

    def project(self, z: Tensor, radius: Tensor | None = None) -> Tensor:
        """The nearest point of the set; with `radius` [b], of the ball of that radius and the bounds."""
        if radius is None and isinstance(self.norm, Linf):
            return z.flatten(1).clamp(self.low, self.high).view_as(self.x)
        within = self.radius if radius is None else radius
        return self.norm.project(self.x.flatten(1), z.flatten(1), within, self.low, self.high).view_as(self.x)

    def reach(self, direction: Tensor) -> Tensor:
        """As far from x along `direction` as the set goes."""
        flat = direction.flatten(1)
        if self.mask is not None:
            flat = flat * self.mask
        return self.norm.reach(self.x.flatten(1), flat, self.radius, self.low, self.high).view_as(self.x)

    def shown(self, x_adv: Tensor) -> Tensor:
        """What the model is shown of a candidate: the candidate itself or, with levels, a grid point no further off."""
        if self.levels is None:
            return x_adv
        return kernels.on_grid(self.x, x_adv, self.levels)

    def size(self, x_adv: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """[b] float64: the norm of x_adv - x measured in float64; inf where x_adv is outside the set, with no slack.

        rows: the rows that x_adv stands for, where it does not stand for all.
        """
        clean, moved = self.x[rows].flatten(1), x_adv.flatten(1)
        delta = moved.double() - clean.double()
        size, allowed = self.norm.size(delta), self.eps[rows]
        if self.levels is not None:
            size = self.norm.size((delta * self.levels).round()) / (1 if self.norm.name == "l0" else self.levels)
            allowed = allowed + 1e-9 / self.levels
        inside = (size <= allowed) & ((moved >= self.low[rows]) & (moved <= self.high[rows])).all(1)
        return torch.where(inside, size, torch.inf)  # NaN compares false: a broken candidate is never inside


def _rounded_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    """[b] float64 >= 0 -> the largest number of that type that is no larger."""
    near = values.clamp_max(torch.finfo(dtype).max).to(dtype)
    return torch.where(near.double() > values, torch.nextafter(near, torch.zeros_like(near)), near)


def _furthest(x: Tensor, eps: Tensor, sign: int) -> Tensor:
    """The last number of x's type in direction `sign` whose distance to x, in float64, is at most eps [b]."""
    edge = (x.double() + sign * eps[:, None]).clamp(torch.finfo(x.dtype).min, torch.finfo(x.dtype).max).to(x.dtype)
    for _ in range(2):
        outside = (edge.double() - x.double()) * sign > eps[:, None]
        edge = torch.where(outside, torch.nextafter(edge, x), edge)
    return edge


def _laid_over(value: Bound, x: Tensor, what: str) -> Tensor:
    """[b, d]: a number or tensor spread over x."""
    return spread(torch.as_tensor(value, dtype=x.dtype, device=x.device), x, what).flatten(1)


def spread(value: Tensor, x: Tensor, what: str) -> Tensor:
    try:
        return value.expand_as(x)
    except RuntimeError:
        raise InputError(
            f"A tensor {tuple(value.shape)} for the {what} does not broadcast to inputs {tuple(x.shape)}: "
            f"give one per feature {tuple(x.shape[1:])} or one per example and feature."
        ) from None


def check_eps(eps: Tensor, batch: int) -> None:
    if eps.shape not in ((), (batch,)):
        raise InputError(f"eps is {tuple(eps.shape)}; one number or one per example [{batch}] is needed.")


def _check_inside(flat: Tensor, low: Tensor, high: Tensor, bounds: tuple[Bound, Bound]) -> None:
    if not flat.isfinite().all():
        bad = int((~flat.isfinite()).any(1).sum())
        raise InputError(f"{bad} of {len(flat)} inputs hold NaN or inf; clean the data before attacking it.")
    if bool(((flat < low) | (flat > high)).any()):
        span = " to ".join(f"{float(b):g}" if not isinstance(b, Tensor) or b.ndim == 0 else "a tensor" for b in bounds)
        raise InputError(
            f"Inputs run from {float(flat.min()):.4g} to {float(flat.max()):.4g}, the bounds are {span}. "
            "Give unnormalised inputs and put the normalisation into the model (attacks.models.Normalized), "
            "or state the bounds of the data."
        )


def _check_on_grid(flat: Tensor, levels: int) -> None:
    steps = flat.double() * levels
    if bool(((steps - steps.round()).abs() > 1e-3).any()):
        raise InputError(f"Inputs do not lie on the grid k / {levels}: give 8-bit images, or levels=None.")
