"""What does a generator of perturbations do to examples it has not seen, and what do gradients and noise do to them?

Everything is judged by `attacks.run`, over examples that the model gets right and, where there is a target, that are of
another class.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import attacks
from advgan.perturb import Generated
from advgan.success import goal_of, predictions
from attacks import Attack, Goal, Result, ThreatModel, Transferred, noise
from reports.sources.dataset import Batch

AT_ONCE = 256  # examples in a batch


class Aim(NamedTuple):
    """What was trained for. target: a class, "any" for whichever is asked for, None to get away from the label."""

    threat: ThreatModel
    target: int | str | None
    classes: int

    def goal(self, labels: Tensor) -> Goal:
        """Of the examples [n] in their order; with "any", another class than the label, each as often."""
        return goal_of(self.target, self.classes, labels, torch.arange(len(labels), device=labels.device))


class Held(NamedTuple):
    """Examples that were not trained on, as one model sees them."""

    model: nn.Module
    x: Tensor
    labels: Tensor
    counted: Tensor  # [n] bool: right when clean, and of another class than the target

    @classmethod
    def of(cls, model: nn.Module, batch: Batch, aim: Aim) -> "Held":
        correct = predictions(model, batch.x) == batch.labels
        counted = correct & (batch.labels != aim.target) if isinstance(aim.target, int) else correct
        return cls(model, batch.x, batch.labels, counted)


@dataclass(frozen=True)
class Row:
    """What one attack came to, as counts over the examples that count."""

    name: str
    fooled: int
    of: int
    length: float | None  # mean Euclidean length of what it added where it fooled; None where it fooled none
    forwards: float  # means per example, the look at the clean input included
    backwards: float


def ran(attack: Attack, held: Held, aim: Aim, threat: ThreatModel | None = None) -> Result:
    return attacks.run(attack, held.model, held.x, aim.goal(held.labels), threat or aim.threat, batch_size=AT_ONCE)


def row(name: str, held: Held, found: Result) -> Row:
    counted, fooled = held.counted, held.counted & found.fooled
    length = (found.x_adv - held.x).flatten(1).norm(dim=1)[fooled]
    return Row(
        name=name,
        fooled=int(fooled.sum()),
        of=int(counted.sum()),
        length=float(length.mean()) if len(length) else None,
        forwards=float(found.queries[counted].double().mean()),
        backwards=float(found.backwards[counted].double().mean()),
    )


def compared(own: Result, held: Held, aim: Aim) -> list[Row]:
    """The generator first, then gradients, and noise that is as large; each noise has one try, as the generator has."""
    catalog = attacks.CATALOG
    rows = [row("generator", held, own)]
    rows += [row(name, held, ran(attack, held, aim)) for name, attack in (("fgsm", catalog["fgsm"]()), ("pgd", pgd()))]
    random = "uniform_noise" if aim.threat.norm.name == "linf" else "gaussian_noise"
    rows += [row(random, held, ran(catalog[random](tries=1), held, aim))]
    return rows


def pgd() -> Attack:
    return attacks.CATALOG["pgd"](steps=20)


def as_long(made: Tensor, held: Held, aim: Aim) -> tuple[Tensor, Result]:
    """Gaussian noise, for each example of the Euclidean length of what the generator `made` [n, ...] of it.

    The noisy examples [n, ...], and what comes of as much noise drawn in the loop.
    """
    length = (made - held.x).flatten(1).double().norm(dim=1)
    around = attacks.l2(length, bounds=aim.threat.bounds)
    drawn = noise.normal(0, torch.arange(len(held.x), device=held.x.device), 0, tuple(held.x.shape[1:]))
    return around.around(held.x).reach(drawn), ran(attacks.CATALOG["gaussian_noise"](tries=1), held, aim, around)


def by_class(held: Held, found: Result, names: list[str]) -> list[dict[str, Any]]:
    """Of each class that has examples which count: how many, and how many of them were fooled."""
    told = []
    for label, name in enumerate(names):
        rows = held.counted & (held.labels == label)
        if bool(rows.any()):
            told.append({"name": name, "fooled": int(found.fooled[rows].sum()), "of": int(rows.sum())})
    return told


def transfer(own: Generated, models: Mapping[str, Held], aim: Aim) -> dict[str, Any]:
    """What was made against the first model, shown to each of them: the generator's, that of PGD, and noise.

    {"models": [name], "rows": [{"name", "fooled": [..], "of": [..]}]}; of each model's own examples that count. A
    generator that reads a layer reads that of the first model.
    """
    victim = next(iter(models))
    there = Transferred(own, models[victim].model) if own.perturber.reads else own
    random = attacks.CATALOG["gaussian_noise"](tries=1)
    attempts = {
        "generator": lambda name: own if name == victim else there,
        "pgd": lambda name: pgd() if name == victim else Transferred(pgd(), models[victim].model),
        "noise": lambda name: random,
    }
    rows = []
    for called, attack in attempts.items():
        found = [row(called, held, ran(attack(name), held, aim)) for name, held in models.items()]
        rows.append({"name": called, "fooled": [each.fooled for each in found], "of": [each.of for each in found]})
    return {"models": list(models), "rows": rows}


def plain(rows: list[Row]) -> list[dict[str, Any]]:
    return [asdict(each) for each in rows]
