"""What the attacker may do to an input, and what it wants of the model."""

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from .columns import PerRow
from .errors import InputError, unknown
from .norms import NORMS, Norm
from .threat_set import Bound, ThreatSet, check_eps, spread


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

    def around(self, x: Tensor) -> ThreatSet:
        """The set for each row of x [B, ...]; x must be finite and within the bounds."""
        return ThreatSet.around(x, self.norm, self.eps, self.bounds, self.mask, self.levels)

    def keep(self, rows: slice, x: Tensor) -> "ThreatModel":
        """The threat model of some rows of the batch x [B, ...]: what is given per example is cut, the rest shared."""

        def cut(value, what: str):
            if not isinstance(value, Tensor):
                return value
            spread(value, x, what)
            return value[rows] if value.ndim == x.ndim and len(value) > 1 else value

        low, high = self.bounds
        eps = torch.as_tensor(self.eps, dtype=torch.float64)
        check_eps(eps, len(x))
        return replace(
            self,
            eps=eps[rows] if eps.ndim else self.eps,
            bounds=(cut(low, "bounds"), cut(high, "bounds")),
            mask=cut(self.mask, "mask"),
        )


def radius_from(text: str) -> float:
    """The nearest float64 to '8/255', '2.5/255', '0.1', 'inf'. ValueError, ZeroDivisionError where it is no number."""
    above, *rest = text.split("/")
    if not rest:
        return float(text)
    (below,) = rest
    return float(Fraction(above) / Fraction(below))


def linf(eps: float | Tensor, **options) -> ThreatModel:
    return ThreatModel(NORMS["linf"], eps, **options)


def l2(eps: float | Tensor, **options) -> ThreatModel:
    return ThreatModel(NORMS["l2"], eps, **options)


def l1(eps: float | Tensor, **options) -> ThreatModel:
    return ThreatModel(NORMS["l1"], eps, **options)


def l0(eps: float | Tensor, **options) -> ThreatModel:
    return ThreatModel(NORMS["l0"], eps, **options)


@dataclass(frozen=True)
class Goal(PerRow):
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
