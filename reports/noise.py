"""How far must random noise go, where it is known how far an attack must?"""

import math
from typing import Any

import torch
from torch import Tensor

from attacks import ThreatModel, Victim
from attacks.probe import directions, distances
from reports.sources.dataset import Batch

EXAMPLES = 32  # the first so many of the data
DIRECTIONS = 4  # random ones for each of them that is right when clean


class NoiseProbe:
    """One model's distances to the boundary along random directions, norm by norm, for the first examples."""

    def __init__(self, victim: Victim, seed: int):
        self.victim, self.seed = victim, seed
        self.found: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}  # by noise, its forwards, by the attack

    def look(self, threat: ThreatModel, batch: Batch, correct: Tensor, size: Tensor) -> None:
        """threat: without a radius. size: [b] the smallest perturbation that the attack found. L0 is left out."""
        norm = threat.norm.name
        rows = (correct & (batch.ids < EXAMPLES)).nonzero().squeeze(1)
        if norm == "l0" or len(rows) == 0:
            return
        x, labels, ids = batch.x[rows], batch.labels[rows], batch.ids[rows]
        draw = directions.signs if norm == "linf" else directions.gaussian
        drawn = draw(x, DIRECTIONS, seed=self.seed, ids=ids)
        found = distances(self.victim, x, labels, drawn, threat, seed=self.seed, ids=ids)
        self.found.setdefault(norm, []).append((found.distance.cpu(), found.queries.cpu(), size[rows].cpu()))

    def told(self) -> dict[str, dict[str, Any]]:
        """norm -> counts and medians; a median that is not finite is None."""
        return {
            norm: _told(*(torch.cat(each) for each in zip(*parts, strict=True))) for norm, parts in self.found.items()
        }


def _told(noise: Tensor, queries: Tensor, attack: Tensor) -> dict[str, Any]:
    return {
        "examples": len(noise),
        "rays": noise.numel(),
        "crossed": int(noise.isfinite().sum()),
        "median": _median(noise),
        "attack_median": _median(attack),
        "forwards": int(queries.sum()),
    }


def _median(values: Tensor) -> float | None:
    middle = float(values.median())
    return middle if math.isfinite(middle) else None
