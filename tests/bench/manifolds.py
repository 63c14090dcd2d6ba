"""How alike are two sets of points? Precision, recall, density and coverage (arXiv 1904.06991, 2002.09797)."""

import torch
from torch import Tensor

NEIGHBOURS = 5


def compare(real: Tensor, fake: Tensor) -> dict[str, float]:
    """real [N, D], fake [M, D]: their precision, recall, density and coverage by the five nearest neighbours."""
    real, fake = real.double(), fake.double()
    apart = torch.cdist(real, fake)  # [N, M]
    of_real, of_fake = reach(real), reach(fake)
    within = apart <= of_real[:, None]
    return {
        "precision": float(within.any(0).double().mean()),
        "recall": float((apart <= of_fake).any(1).double().mean()),
        "density": float(within.double().sum(0).mean()) / NEIGHBOURS,
        "coverage": float(within.any(1).double().mean()),
    }


def reach(points: Tensor) -> Tensor:
    """[N]: how far each one's fifth nearest neighbour lies; it is none of its own neighbours."""
    return torch.cdist(points, points).kthvalue(NEIGHBOURS + 1, dim=1).values
