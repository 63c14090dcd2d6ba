"""How often does a perturber fool a victim, on what it has not seen, and how fast?"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import attacks
from attacks import Goal, Transferred
from attacks.threat import ThreatModel
from attacks.victim import borrowed

from .perturber import Generated, Perturber
from .perturbing import Perturbing
from .run import Run
from .samples import Samples

AT_ONCE = 256  # rows of a pass
ON_THE_WAY = 256  # held-out rows that are attacked at each mark; at the end, all
LEVELS = 255
TIMED, TURNS = 100, 5  # rows of a timed pass, and passes

Measured = Callable[[Run], dict[str, float]]


@dataclass(frozen=True)
class Success:
    """Over the rows that count: held out, rightly classified when clean and, with a target, of another class."""

    fooled: Tensor  # [n] bool
    labels: Tensor  # [n] the true ones

    @property
    def count(self) -> int:
        return len(self.fooled)

    @property
    def share(self) -> float:
        """NaN where no row counts."""
        return float(self.fooled.double().mean())

    def by_class(self) -> dict[int, float]:
        return {int(k): float(self.fooled[self.labels == k].double().mean()) for k in self.labels.unique()}


def success(
    attack: Generated,
    victim: nn.Module,
    x: Tensor,
    labels: Tensor,
    threat: ThreatModel | None = None,
    *,
    seed: int = 0,
    source: nn.Module | None = None,
) -> Success:
    """What `attacks.run` sees of the attack on held-out rows x [N, ...] with their true labels [N].

    threat: None for the perturber's own. A perturber that is told its target is given another class than the label, one
    a row, each as often. source: where it reads a layer of another model than the victim, that model, from which it is
    carried over; passes through it are not the victim's.
    """
    perturber = attack.perturber
    threat = perturber.threat if threat is None else threat
    right = predictions(victim, x).to(labels.device) == labels
    if isinstance(perturber.target, int):
        right &= labels != perturber.target
    x, labels, ids = x[right], labels[right], right.nonzero().squeeze(1)
    if not len(x):
        return Success(right[:0], labels)
    goal = goal_of(perturber.target, perturber.classes, labels, ids)
    shown = attack if source is None else Transferred(attack, source)
    found = attacks.run(shown, victim, x, goal, threat, seed=seed, ids=ids, batch_size=AT_ONCE)
    return Success(found.fooled, labels)


def predictions(victim: nn.Module, x: Tensor) -> Tensor:
    """[N] int64: the victim's classes, in eval mode."""
    device = attacks.api.device_of(victim, x.device)
    with borrowed(victim):
        return torch.cat([victim(part.to(device)).argmax(1) for part in x.split(AT_ONCE)])


def goal_of(target: int | str | None, classes: int, labels: Tensor, ids: Tensor) -> Goal:
    """Of rows with labels [n] at the places ids [n]; with "any", another class than the label, each as often."""
    if target is None:
        return Goal(labels)
    if target == "any":
        return Goal((labels + 1 + ids % (classes - 1)) % classes, targeted=True)
    return Goal(torch.full_like(labels, int(target)), targeted=True)


@dataclass(frozen=True, eq=False)
class Judge:
    """What is measured at a mark: a little on the way, everything at the end."""

    victim: nn.Module
    recipe: Perturbing
    held_out: Samples | None
    others: dict[str, nn.Module]
    more: Measured | None

    def __call__(self, run: Run, critic: nn.Module | None) -> dict[str, float]:
        assert isinstance(run.generator, Perturber)
        attack, last = Generated(run.generator), run.step == self.recipe.steps
        told = {} if self.held_out is None else self._successes(attack, self.held_out, last)
        if last:
            told["examples_per_second"] = speed(run.generator)
        return told | (self.more(run) if self.more else {})

    def _successes(self, attack: Generated, held_out: Samples, last: bool) -> dict[str, float]:
        assert held_out.labels is not None
        rows = slice(None) if last else slice(ON_THE_WAY)
        x, labels = held_out.x[rows], held_out.labels[rows]
        found = success(attack, self.victim, x, labels)
        told = {"success": found.share, "held_out": found.count}
        if (self.recipe.low, self.recipe.high) == (0.0, 1.0) and x.ndim == 4:
            threat, shown = replace(self.recipe.threat_model, levels=LEVELS), (x * LEVELS).round() / LEVELS
            told["success_8bit"] = success(attack, self.victim, shown, labels, threat).share
        if last:
            told |= {f"success_class_{k}": share for k, share in found.by_class().items()}
            source = None if attack.perturber.reads is None else self.victim
            across = {
                name: success(attack, other, x, labels, source=source).share for name, other in self.others.items()
            }
            told |= {f"transfer_{name}": share for name, share in across.items()}
            if across:
                told["transfer"] = sum(across.values()) / len(across)
        return told


@torch.no_grad()
def speed(perturber: Perturber) -> float:
    """Examples a second of the perturber's own pass, and of the victim's where it reads that: the best of some."""
    x = torch.full((TIMED, *perturber.shape), 0.5, device=next(perturber.parameters()).device)
    threat, labels = perturber.threat.around(x), torch.zeros(TIMED, dtype=torch.int64, device=x.device)
    z, best = x.new_zeros(TIMED, perturber.latent), 0.0
    for _ in range(TURNS):
        start = time.perf_counter()
        perturber.within(threat, labels, z, perturber.looked_up(x)).sum().item()  # waits for the device
        best = max(best, TIMED / (time.perf_counter() - start))
    return best
