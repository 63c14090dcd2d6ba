"""Which samples does a generator make of one class that a victim takes for another, and who else would say so?

Unrestricted adversarial examples (Song et al. 2018, arXiv 1805.07894) are near to no given input. Nothing but the
generator keeps them in their class, so that a success is worth what an outside judge says of it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attacks.api import device_of
from attacks.api import run as attacked
from attacks.card import Card
from attacks.errors import InputError
from attacks.loop import Search
from attacks.losses import margin
from attacks.result import Result
from attacks.rows import Rows
from attacks.threat import Goal, linf
from attacks.victim import Victim, borrowed, gradient

from .run import AT_ONCE, Run
from .sample import sample
from .samples import SAMPLING, stream

DECAYS = (0.9, 0.999)  # Adam's
TINY = 1e-8  # floor for its divisor


@dataclass(frozen=True, eq=False)
class Sampled:
    """The attack: from a random z0, Adam climbs the victim's margin over the latents of a conditional generator.

    generator(None, labels, z) -> [b, ...] as `Run.load` gives it. A row's class is its label or, of a targeted goal,
    `versus`. The rows' x is not looked at: what is shown is bounded by the data's bounds alone, threat `linf:inf`.

    free: how far each latent may be from where it started; what is beyond costs near_weight a mean unit.
    auxiliary: a classifier of the victim's inputs, whose cross entropy for the row's class is to stay small. Its passes
        are not the victim's and are not counted.
    """

    card: ClassVar = Card(eps="inf")

    generator: nn.Module
    steps: int = 200
    lr: float = 0.05
    free: float = 0.1
    near_weight: float = 10.0
    auxiliary: nn.Module | None = None
    auxiliary_weight: float = 1.0

    def __post_init__(self):
        if self.steps < 1 or not self.lr > 0 or min(self.free, self.near_weight, self.auxiliary_weight) < 0:
            raise InputError(
                f"steps={self.steps}, lr={self.lr}, free={self.free}, weights {self.near_weight} and "
                f"{self.auxiliary_weight}: at least one step of a positive rate is needed, and nothing below 0."
            )
        if getattr(self.generator, "classes", None) is None:
            raise InputError("This generator was trained without classes; one that can be asked for a class is needed.")

    def search(self, rows: Rows) -> Search:
        generator: Any = self.generator
        rows.asked = _class_of(rows.goal)
        rows.z = rows.start = rows.normal(generator.latent)
        rows.mean = rows.square = torch.zeros_like(rows.z)
        for step in range(1, self.steps + 1):
            with torch.enable_grad():
                z = rows.z.detach().requires_grad_()
                x = shown(generator(None, rows.asked, z))
                price = self._price(x, z, rows)
            rows.place = torch.arange(len(rows), device=z.device)  # in x, whatever rows leave meanwhile
            answer = yield gradient(x.detach(), margin)
            gains = torch.zeros_like(x).index_copy(0, rows.place, answer.grad())
            (rise,) = torch.autograd.grad([x, price], z, [gains, -torch.ones_like(price)])
            _climb(rows, rise[rows.place], step, self.lr)

    def _price(self, x: Tensor, z: Tensor, rows: Rows) -> Tensor:
        """[b]: for having gone far, and for what the auxiliary classifier no longer recognises."""
        price = self.near_weight * ((z - rows.start).abs() - self.free).clamp_min(0).mean(1)
        if self.auxiliary is None:
            return price
        with borrowed(self.auxiliary, rows.seed % 2**63), torch.enable_grad():
            return price + self.auxiliary_weight * cross_entropy(self.auxiliary(x), rows.asked, reduction="none")


def shown(made: Tensor) -> Tensor:
    """What a generator makes, as classifiers take it: images [b, C, H, W] within [0, 1], vectors as they are."""
    return (made + 1) / 2 if made.ndim == 4 else made


def _class_of(goal: Goal) -> Tensor:
    if not goal.targeted:
        return goal.labels
    if goal.versus is None:
        raise InputError(
            "The goal names the class to be taken for; say of which class the samples are to be: "
            "Goal(target, targeted=True, versus=labels)."
        )
    return goal.versus


def _climb(rows: Rows, rise: Tensor, step: int, lr: float) -> None:
    first, second = DECAYS
    rows.mean = first * rows.mean + (1 - first) * rise
    rows.square = second * rows.square + (1 - second) * rise.square()
    size = (rows.square / (1 - second**step)).sqrt().clamp_min(TINY)
    rows.z = rows.z + lr * rows.mean / (1 - first**step) / size


@dataclass(frozen=True, eq=False)
class Unrestricted:
    """n samples of the classes asked for, where the search left them, and what was said of them.

    Shares are over the samples that stood at first: those that the victim took for the class asked for before any
    search (for a target: for another class than that).
    """

    labels: Tensor  # [n] int64, the classes asked for
    start: Tensor  # [n, ...] what the generator makes of them unsearched
    result: Result  # x_adv: the samples found, the start where none was
    named: Tensor  # [n] int64, the victim's class of x_adv
    judged: Tensor | None = None  # [n] int64, the judge's class of x_adv
    judged_start: Tensor | None = None  # [n] int64, of the start

    @property
    def stood(self) -> Tensor:
        """[n] bool."""
        return self.result.step != 0

    @property
    def found(self) -> Tensor:
        """[n] bool: by the search."""
        return self.result.fooled & self.stood

    def measures(self) -> dict[str, float]:
        """Shares; `nan` where nothing is there to take a share of.

        success: of those that stood, those found. agreement: of those found, those that the judge still takes for the
        class asked for; agreement_at_start: the same samples before the search, which bounds what can be expected.
        success_agreed: of those that stood, those found with the judge's agreement. forwards, backwards: of the victim
        for each that stood, its first answer included.
        """
        stood, found = self.stood, self.found
        measures = {"stood": _share(stood), "success": _share(found[stood])}
        if self.judged is not None and self.judged_start is not None:
            agreed = self.judged == self.labels
            measures["agreement"] = _share(agreed[found])
            measures["agreement_at_start"] = _share((self.judged_start == self.labels)[found])
            measures["success_agreed"] = _share((found & agreed)[stood])
        measures["forwards"] = _share(self.result.queries[stood])
        measures["backwards"] = _share(self.result.backwards[stood])
        return measures


def unrestricted(
    run: Run,
    victim: Victim,
    n: int,
    *,
    labels: Tensor | None = None,
    target: int | None = None,
    judge: nn.Module | None = None,
    seed: int = 0,
    **options: Any,
) -> Unrestricted:
    """Samples k = 0 ... n - 1 of a run, searched for what the victim takes for another class.

    labels: [n] int64, the classes asked for; None: all in turn. target: the class to be taken for; None: any other.
    judge: an outside classifier; not the victim and not the auxiliary, which the search sees. options: of `Sampled`.
    The search of sample k sets out from what `sample(run, n, labels, seed)` gives there.

    Raises InputError for a run without classes, a judge that the search sees, labels that do not fit, and a target that
    is among them.
    """
    attack = Sampled(run.generator, **options)
    if judge is not None and (judge is victim.model or judge is attack.auxiliary):
        raise InputError("The judge is a model that the search sees, so its word is worth nothing. Give another.")
    start, labels = sample(run, n, labels, seed)
    assert labels is not None
    if target is not None and bool((labels == target).any()):
        raise InputError(f"Samples of class {target} are asked for, to be taken for {target}: leave that class out.")
    goal = Goal(labels) if target is None else Goal(torch.full_like(labels, target), targeted=True, versus=labels)
    bounds = (0.0, 1.0) if start.ndim == 4 else (-torch.inf, torch.inf)
    result = attacked(
        attack, victim, start, goal, linf(torch.inf, bounds=bounds), seed=stream(seed, SAMPLING), batch_size=AT_ONCE
    )
    said = [None if model is None else _named(model, result.x_adv) for model in (victim.model, judge)]
    assert said[0] is not None
    return Unrestricted(labels, start, result, said[0], said[1], None if judge is None else _named(judge, start))


def _named(model: nn.Module, x: Tensor) -> Tensor:
    """[n] int64."""
    device = device_of(model, x.device)
    with borrowed(model):
        return torch.cat([model(part.to(device)).argmax(1).cpu() for part in x.split(AT_ONCE)])


def _share(values: Tensor) -> float:
    return float(values.double().mean())
