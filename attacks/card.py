"""What an attack is made for, said before it runs: what it must see, which norms, goals, sizes and shapes."""

from dataclasses import dataclass, replace
from typing import Literal

from .errors import InputError
from .rows import Rows
from .victim import Access, Victim

NORMS = ("linf", "l2", "l1", "l0")


@dataclass(frozen=True)
class Card:
    """A class attribute (or property) `card` of an attack; an attack without one is taken to do anything.

    eps: "finite" for an attack that steps by shares of eps (with eps = inf finite bounds will do, which the threat set
        turns into a radius), "inf" for one that has bounds of its own and no use for a ball.
    images: the inputs must be [B, C, H, W].
    targeted: it can aim at a class.
    watch: it decides by what the loop saw (`rows.trace`), which the loop then keeps.
    """

    access: Access = Access.GRADIENT
    norms: tuple[str, ...] = NORMS
    eps: Literal["any", "finite", "inf"] = "any"
    images: bool = False
    targeted: bool = True
    watch: bool = False

    def check(self, attack: object, victim: Victim, rows: Rows) -> None:
        """Raises InputError, which says what the attack can do, where that is not what it was asked."""
        name, norm, shape = type(attack).__name__, rows.threat.norm.name, tuple(rows.x.shape)
        victim.check(self.access)
        if norm not in self.norms:
            raise InputError(f"{name} is made for {_listed(self.norms)}, and the threat is {norm}.")
        if self.images and len(shape) != 4:
            raise InputError(f"{name} works on images [B, C, H, W]; the inputs are {shape}.")
        if rows.goal.targeted and not self.targeted:
            raise InputError(f"{name} cannot aim at a class: give labels to get away from, or another attack.")
        if self.eps == "finite" and bool(rows.threat.radius.isinf().any()):
            raise InputError(
                f"{name} steps by shares of eps, and both eps and the bounds are inf: give one, or use fmn."
            )
        if self.eps == "inf" and bool(rows.threat.eps.isfinite().any()):
            raise InputError(f"{name} has bounds of its own and stays in no ball: give the threat {norm}:inf.")

    def fits(self, rows: Rows) -> bool:
        """Whether such an attack is made for these rows, whatever the victim reveals."""
        return (
            rows.threat.norm.name in self.norms
            and (not self.images or rows.x.ndim == 4)
            and (self.targeted or not rows.goal.targeted)
            and self.eps != "inf"
        )

    def also(self, other: "Card") -> "Card":
        """The card of both together."""
        eps = other.eps if self.eps == "any" else self.eps
        if {self.eps, other.eps} == {"finite", "inf"}:
            raise InputError("One of these attacks needs a finite eps and another eps = inf: run them apart.")
        return replace(
            self,
            access=max(self.access, other.access),
            norms=tuple(norm for norm in self.norms if norm in other.norms),
            eps=eps,
            images=self.images or other.images,
            targeted=self.targeted and other.targeted,
            watch=self.watch or other.watch,
        )


def card_of(attack: object) -> Card:
    return getattr(attack, "card", None) or Card()


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
