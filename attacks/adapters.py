"""Attacks that are called as torchattacks' and foolbox's are, so that scripts written for those move over.

What differs is what this library promises: an input that was not fooled comes back as it was, and what is called
adversarial lies inside the ball and the bounds with no slack, for each row on its own.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .api import run
from .catalog import CATALOG, attack_named
from .errors import InputError, unknown
from .loop import Attack
from .norms import NORMS
from .result import Result
from .threat import Goal, ThreatModel
from .threat_set import Bound
from .victim import Victim

Bounds = tuple[Bound, Bound]
MODES = ("default", "targeted by label", "targeted by function")


def torchattacks(
    name: str,
    model: nn.Module | Victim,
    eps: float = math.inf,
    *,
    norm: str = "linf",
    alpha: float | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    bounds: Bounds = (0.0, 1.0),
    **options: Any,
) -> "Called":
    """atk = torchattacks("pgd", model, eps=8/255, alpha=2/255, steps=10); x_adv = atk(images, labels).

    name: in `attacks.CATALOG`, in any case; "PGDL2" and the like name the norm, too.
    eps: in the units of the images; inf, for attacks that look for the smallest perturbation.
    alpha: the length of a step, in the same units, for attacks that step by a share of eps.
    options: of the attack, as `CATALOG` has them (steps, queries, ...).
    Raises InputError for an attack, a norm or an option that is not there.
    """
    name, norm = _split(name, norm)
    if alpha is not None:
        if not (math.isfinite(eps) and eps > 0):
            raise InputError(f"alpha={alpha} is a share of eps, and eps={eps}: give one above 0.")
        options["share"] = alpha / eps
    threat = ThreatModel(NORMS[norm], eps, bounds)
    return Called(attack_named(name, **options), model, threat, seed, batch_size)


class Called:
    """An attack on a model, called with images and labels. `result` is what the last call found, row by row."""

    def __init__(
        self, attack: Attack, model: nn.Module | Victim, threat: ThreatModel, seed: int, batch_size: int | None
    ):
        self.attack, self.model, self.threat, self.seed, self.batch_size = attack, model, threat, seed, batch_size
        self.mode, self.result = MODES[0], None
        self._targets: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """x_adv [B, ...], where images are; labels [B]: of the images or, in targeted mode, the classes to reach."""
        wanted = labels if self._targets is None else self._targets(images, labels)
        goal = Goal(wanted.long(), targeted=self.mode != MODES[0])
        self.result: Result | None = run(
            self.attack, self.model, images, goal, self.threat, seed=self.seed, batch_size=self.batch_size
        )
        return self.result.x_adv

    def set_mode_default(self) -> None:
        self.mode, self._targets = MODES[0], None

    def set_mode_targeted_by_label(self) -> None:
        """From now on labels are the classes to reach."""
        self.mode, self._targets = MODES[1], None

    def set_mode_targeted_by_function(self, target_map_function: Callable[[Tensor, Tensor], Tensor]) -> None:
        """From now on the classes to reach are function(images, labels)."""
        self.mode, self._targets = MODES[2], target_map_function


def foolbox(name: str, *, norm: str = "linf", seed: int = 0, batch_size: int | None = None, **options: Any) -> "Swept":
    """attack = foolbox("LinfPGD", steps=40); raw, clipped, is_adv = attack(model, inputs, labels, epsilons=[...]).

    name: in `attacks.CATALOG`, in any case; "LinfPGD" and the like name the norm, too.
    options: of the attack, as `CATALOG` has them; `rel_stepsize` is a step's share of eps.
    Raises InputError for an attack, a norm or an option that is not there.
    """
    name, norm = _split(name, norm)
    if "rel_stepsize" in options:
        options["share"] = options.pop("rel_stepsize")
    return Swept(attack_named(name, **options), norm, seed, batch_size)


class Swept:
    """An attack, called with a model, inputs, a criterion and one or several eps."""

    def __init__(self, attack: Attack, norm: str, seed: int, batch_size: int | None):
        self.attack, self.norm, self.seed, self.batch_size = attack, norm, seed, batch_size

    def __call__(
        self,
        model: nn.Module | Victim,
        inputs: Tensor,
        criterion: Any,
        *,
        epsilons: float | Sequence[float | None] | None,
        bounds: Bounds = (0.0, 1.0),
    ) -> tuple[Any, Any, Any]:
        """raw and clipped, x_adv [B, ...] each, and is_adv [B] bool: for one eps; lists, and [eps, B], for several.

        criterion: labels [B]; or an object with `labels` (any other class) or `target_classes`, as foolbox has them;
            or a `Goal`.
        epsilons: None is the smallest perturbation. An attack that looks for it runs once, for all of them: raw is what
            it found, clipped that as far as it lies within eps, else the input. Others run once per eps.
        """
        several = isinstance(epsilons, Sequence)
        asked = [math.inf if eps is None else float(eps) for eps in (epsilons if several else [epsilons])]  # type: ignore[union-attr]
        goal = _goal(criterion)

        def found(eps: float) -> Result:
            threat = ThreatModel(NORMS[self.norm], eps, bounds)
            return run(self.attack, model, inputs, goal, threat, seed=self.seed, batch_size=self.batch_size)

        smallest = getattr(self.attack, "until", "first") == "smallest"
        results = [found(math.inf)] * len(asked) if smallest else [found(eps) for eps in asked]
        within = [
            result.size <= eps if eps < math.inf else result.fooled for result, eps in zip(results, asked, strict=True)
        ]
        raw = [result.x_adv for result in results]
        clipped = [_where(inside, x_adv, inputs) for inside, x_adv in zip(within, raw, strict=True)]
        if not several:
            return raw[0], clipped[0], within[0]
        return raw, clipped, torch.stack(within)


def _where(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), one, other.to(one))


def _goal(criterion: Any) -> Goal:
    if isinstance(criterion, Goal):
        return criterion
    if isinstance(criterion, Tensor):
        return Goal(criterion.long())
    for name, targeted in (("target_classes", True), ("labels", False)):
        classes = getattr(criterion, name, None)
        if classes is not None:
            return Goal(torch.as_tensor(getattr(classes, "raw", classes)).long(), targeted)
    raise InputError(
        f"The criterion is {type(criterion).__name__}; labels [B], attacks.Goal, or an object with labels or "
        "target_classes is needed."
    )


def _split(name: str, norm: str) -> tuple[str, str]:
    """The attack's name in the catalog, and the norm that it or `norm` names."""
    plain, norm = name.lower(), norm.lower()
    if plain not in CATALOG:
        for each in NORMS:
            inner = plain.removeprefix(each).removesuffix(each).strip("_")
            if inner in CATALOG and inner != plain:
                return inner, each
        raise unknown("attack", name, CATALOG)
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    return plain, norm
