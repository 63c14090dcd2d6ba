"""What the attacker may do to an input, and what it wants of the model."""

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from .errors import InputError, unknown
from .norms import NORMS, TINY, Linf, Norm

Bound = float | Tensor


@dataclass(frozen=True)
class ThreatModel:
    """The inputs that may stand in for x: a norm ball round it, cut by the data bounds and by a mask.

    eps: radius in the units of x, one for all or one per row [B]; inf leaves only the bounds. Kept in float64.
    bounds: (low, high), numbers or tensors that broadcast to x (per feature, per row).
    mask: 1 where the attacker may write, 0 where not; broadcast to x.
    levels: 255 keeps candidates on the 8-bit grid k / 255 and measures them in whole levels; None is continuous.
    """

    norm: Norm
    eps: float | Tensor
    bounds: tuple[Bound, Bound] = (0.0, 1.0)
    mask: Tensor | None = None
    levels: int | None = None

    def __post_init__(self):
        if isinstance(self.norm, str) or not hasattr(self.norm, "project"):
            raise InputError(
                f"The norm is {self.norm!r}; give one of attacks.linf, l2, l1, l0, or text like 'linf:8/255'."
            )
        try:
            eps = torch.as_tensor(self.eps, dtype=torch.float64)
        except (TypeError, ValueError):
            raise InputError(f"eps is {self.eps!r}; it must be a number, or a tensor of one per example.") from None
        if bool(eps.isnan().any()) or bool((eps < 0).any()):
            raise InputError(f"eps is {self.eps}; it must be a number of at least 0 (inf leaves only the bounds).")
        low, high = (torch.as_tensor(b) for b in self.bounds)
        if not bool((low <= high).all()):
            raise InputError(f"The bounds run from {self.bounds[0]} to {self.bounds[1]}; low must not exceed high.")
        plain = not any(isinstance(bound, Tensor) for bound in self.bounds) and self.bounds == (0.0, 1.0)
        if self.levels is not None and (self.levels < 1 or not plain):
            raise InputError(
                f"levels={self.levels} with bounds {self.bounds}: a grid needs levels >= 1 and bounds (0, 1)."
            )

    @classmethod
    def parse(cls, text: str, bounds: tuple[Bound, Bound] = (0.0, 1.0)) -> "ThreatModel":
        """'linf:8/255', 'linf:2.5/255', 'l2:0.5', 'l1:12', 'l0:20', 'linf:inf'."""
        name, colon, radius = text.strip().lower().partition(":")
        if name not in NORMS:
            raise unknown("norm", name, NORMS)
        try:
            eps = radius_from(radius)
        except (ValueError, ZeroDivisionError):
            what = f"{radius!r} is not a number" if colon else "it names no eps"
            raise InputError(
                f"The threat {text!r} is NORM:EPS, and {what}. Write, say, linf:8/255 or l2:0.5."
            ) from None
        return cls(NORMS[name], eps, bounds)

    def around(self, x: Tensor) -> "ThreatSet":
        """The set for each row of x [B, ...]; x must be finite and within the bounds."""
        return ThreatSet.around(self, x)

    def keep(self, rows: slice, x: Tensor) -> "ThreatModel":
        """The threat model of some rows of the batch x [B, ...]: what is given per example is cut, the rest shared."""

        def cut(value, what: str):
            if not isinstance(value, Tensor):
                return value
            _spread(value, x, what)
            return value[rows] if value.ndim == x.ndim and len(value) > 1 else value

        low, high = self.bounds
        eps = torch.as_tensor(self.eps, dtype=torch.float64)
        _check_eps(eps, len(x))
        return replace(
            self,
            eps=eps[rows] if eps.ndim else self.eps,
            bounds=(cut(low, "bounds"), cut(high, "bounds")),
            mask=cut(self.mask, "mask"),
        )


def radius_from(text: str) -> float:
    """The nearest float64 to '8/255', '2.5/255', '0.1', 'inf'. ValueError, ZeroDivisionError where it is no number."""
    above, over, below = text.partition("/")
    return float(Fraction(above) / Fraction(below)) if over else float(text)


def linf(eps: float | Tensor, **options) -> ThreatModel:
    return ThreatModel(NORMS["linf"], eps, **options)


def l2(eps: float | Tensor, **options) -> ThreatModel:
    return ThreatModel(NORMS["l2"], eps, **options)


def l1(eps: float | Tensor, **options) -> ThreatModel:
    return ThreatModel(NORMS["l1"], eps, **options)


def l0(eps: float | Tensor, **options) -> ThreatModel:
    return ThreatModel(NORMS["l0"], eps, **options)


@dataclass
class ThreatSet:
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
    def around(cls, threat: ThreatModel, x: Tensor) -> "ThreatSet":
        flat = x.flatten(1)
        eps = torch.as_tensor(threat.eps, dtype=torch.float64, device=x.device)
        _check_eps(eps, len(x))
        eps = eps.expand(len(x)).contiguous()
        low, high = (_laid_over(bound, x, "bounds") for bound in threat.bounds)
        _check_inside(flat, low, high, threat.bounds)
        mask = None if threat.mask is None else _laid_over(threat.mask, x, "mask")
        if mask is not None:
            low, high = torch.where(mask == 0, flat, low), torch.where(mask == 0, flat, high)
        least, most = low.contiguous(), high.contiguous()
        reach = eps
        if threat.levels is not None:
            _check_on_grid(flat, threat.levels)
            # Half a level beyond the last whole one: truncation then lands on that one and not before it.
            reach = ((eps * threat.levels + 1e-9).floor() + 0.5) / threat.levels
        if isinstance(threat.norm, Linf):
            low = torch.maximum(low, _furthest(flat, reach, -1))
            high = torch.minimum(high, _furthest(flat, reach, +1))
        radius = _rounded_down((eps - threat.norm.hair(flat, eps)).maximum(eps / 2), x.dtype)
        unit = None
        if bool(eps.isinf().any()):
            room = torch.maximum(high - flat, flat - low)
            corner = threat.norm.size(room.masked_fill(room > torch.finfo(x.dtype).max / 4, torch.inf))
            radius = torch.where(eps.isinf(), corner, radius)
            if isinstance(threat.norm, Linf):
                unit = torch.where(eps.isinf()[:, None], room / corner.clamp_min(TINY)[:, None], 1.0)
        low, high = (least, most) if not isinstance(threat.norm, Linf) else (low, high)
        return cls(threat.norm, x, eps, radius, low, high, mask, threat.levels, least, most, unit)

    def step(self, x_adv: Tensor, direction: Tensor, length: Tensor, progress: float = 1.0) -> Tensor:
        """From x_adv the steepest move along `direction` of size `length` [b], back into the set.

        progress: share of the search that is over; L1 moves fewer coordinates at a time as it grows.
        """
        flat = direction.flatten(1)
        if self.mask is not None:
            flat = flat * self.mask
        x, low, high = self.x.flatten(1), self.low, self.high
        if self.unit is not None:
            moved = x_adv.flatten(1) + flat.sign() * self.unit * length[:, None]
            return moved.clamp(low, high).view_as(self.x)
        moved = self.norm.step(x, x_adv.flatten(1), flat, length, self.radius, low, high, progress)
        return moved.view_as(self.x)

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
        base = (self.x * self.levels).round()
        steps = (x_adv - self.x) * self.levels
        # A step of exactly 8 levels may arrive as 7.9999; truncation goes towards x and stays in the ball.
        return (base + (steps + steps.sign() * 1e-3).trunc()).clamp(0, self.levels) / self.levels

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

    def keep(self, rows: Tensor) -> "ThreatSet":
        mask, unit = (None if each is None else each[rows] for each in (self.mask, self.unit))
        return replace(
            self,
            x=self.x[rows],
            eps=self.eps[rows],
            radius=self.radius[rows],
            low=self.low[rows],
            high=self.high[rows],
            least=self.least[rows],
            most=self.most[rows],
            mask=mask,
            unit=unit,
        )


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
    return _spread(torch.as_tensor(value, dtype=x.dtype, device=x.device), x, what).flatten(1)


def _spread(value: Tensor, x: Tensor, what: str) -> Tensor:
    try:
        return value.expand_as(x)
    except RuntimeError:
        raise InputError(
            f"A tensor {tuple(value.shape)} for the {what} does not broadcast to inputs {tuple(x.shape)}: "
            f"give one per feature {tuple(x.shape[1:])} or one per example and feature."
        ) from None


def _check_eps(eps: Tensor, batch: int) -> None:
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


@dataclass(frozen=True)
class Goal:
    """Untargeted: any class but `labels`. Targeted: exactly `labels`.

    labels: [b] int64.
    versus: [b] int64, the class that a targeted loss measures against; None = whichever other class leads.
    """

    labels: Tensor
    targeted: bool = False
    versus: Tensor | None = None

    def reached(self, predicted: Tensor) -> Tensor:
        """[b] int64 -> [b] bool."""
        return (predicted == self.labels) == self.targeted

    def keep(self, rows: Tensor | slice) -> "Goal":
        return replace(self, labels=self.labels[rows], versus=None if self.versus is None else self.versus[rows])

    def repeat(self, times: int) -> "Goal":
        """The goal of `times` copies of the batch, one after the other."""
        return replace(
            self, labels=self.labels.repeat(times), versus=None if self.versus is None else self.versus.repeat(times)
        )

    def to(self, device: torch.device) -> "Goal":
        """A copy there."""
        versus = None if self.versus is None else self.versus.to(device, copy=True)
        return replace(self, labels=self.labels.to(device, copy=True), versus=versus)

    def check(self, batch: int, classes: int | None = None) -> None:
        """Raises InputError unless labels are [batch] int64 within the classes."""
        if not isinstance(self.labels, Tensor):
            raise InputError(
                f"Labels are {type(self.labels).__name__}; a tensor of class numbers is needed, int64 [{batch}]: "
                "torch.as_tensor(labels)."
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != (batch,):
            raise InputError(
                f"Labels are {self.labels.dtype} {tuple(self.labels.shape)}; class numbers are needed, "
                f"int64 [{batch}], one per input."
            )
        if classes is not None and batch and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes:
            raise InputError(
                f"Labels run from {int(self.labels.min())} to {int(self.labels.max())}, the model has {classes} "
                f"classes: labels must be 0 to {classes - 1}."
            )
