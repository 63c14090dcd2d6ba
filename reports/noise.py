"""How far must random noise go, where it is known how far an attack must?"""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attacks import ThreatModel, Victim
from attacks.probe import directions, distances
from reports.sources.dataset import Batch

EXAMPLES = 32  # the first so many of the data
DIRECTIONS = 4  # random ones for each of them that is right when clean


def noise(
    victim: Victim, threat: ThreatModel, batch: Batch, correct: Tensor, size: Tensor, seed: int
) -> dict[str, Any] | None:
    """Distances to the boundary along random directions, for those of the first examples that are right when clean.

    threat: without a radius. size: [b] the smallest perturbation that an attack found. Columns [m]: `id`, `distances`
    and `forwards` (one a direction), and `size`. None where there are no such examples, and in L0.
    """
    norm = threat.norm.name
    rows = (correct & (batch.ids < EXAMPLES)).nonzero().squeeze(1)
    if norm == "l0" or len(rows) == 0:
        return None
    x, labels, ids = batch.x[rows], batch.labels[rows], batch.ids[rows]
    draw = directions.signs if norm == "linf" else directions.gaussian
    drawn = draw(x, DIRECTIONS, seed=seed, ids=ids)
    found = distances(victim, x, labels, drawn, threat, seed=seed, ids=ids)
    return {
        "id": ids.cpu().numpy(),
        "distances": found.distance.cpu().tolist(),
        "forwards": found.queries.cpu().tolist(),
        "size": size[rows].cpu().numpy(),
    }


def told(rows: pd.DataFrame) -> dict[str, Any]:
    """Counts and medians over what `noise` found; a median that is not finite is None."""
    rays = torch.tensor(np.stack(rows["distances"].tolist()))
    return {
        "examples": len(rows),
        "rays": rays.numel(),
        "crossed": int(rays.isfinite().sum()),
        "median": _median(rays),
        "attack_median": _median(torch.tensor(rows["size"].to_numpy())),
        "forwards": int(np.stack(rows["forwards"].tolist()).sum()),
    }


def _median(values: Tensor) -> float | None:
    middle = float(values.median())
    return middle if math.isfinite(middle) else None
