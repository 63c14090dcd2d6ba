"""Data whose truth is known: how are the ring, the grid and the Gaussian on the line learnt and measured?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from advgan import gaussian, mixtures
from advgan.run import Run
from advgan.samples import Samples
from attacks.errors import InputError
from reports.training.asked import Asked


@dataclass(frozen=True, eq=False)
class Modes:
    """A mixture of Gaussians in the plane, by PacGAN's protocol."""

    mixture: mixtures.Mixture
    training: Samples
    conditional = False
    judge = None
    features = None
    every = None

    @property
    def about(self) -> dict[str, Any]:
        return {
            "name": self.mixture.name,
            "shape": [2],
            "centres": self.mixture.centres.tolist(),
            "deviation": self.mixture.std,
            "training": mixtures.TRAINING,
        }

    def measure(self, run: Run, critic: nn.Module) -> dict[str, float]:
        learnt = self.mixture.measure(run.sample(mixtures.SAMPLES, seed=1))
        found = learnt.deviation[~learnt.deviation.isnan()]
        widths = {"narrowest": float(found.min()), "widest": float(found.max())} if len(found) else {}
        return learnt.as_measures() | widths

    def pictures(self, run: Run) -> dict[str, np.ndarray]:
        return {"x": run.sample(mixtures.SAMPLES).numpy()}


@dataclass(frozen=True, eq=False)
class Line:
    """The Gaussian on the line, where the theory says how the game must end."""

    training: Samples
    conditional = False
    judge = None
    features = None
    every = gaussian.EVERY

    @property
    def about(self) -> dict[str, Any]:
        return {"name": "gaussian-1d", "shape": [1], "training": gaussian.COUNT}

    def measure(self, run: Run, critic: nn.Module) -> dict[str, float]:
        return gaussian.measure(run, critic)

    def pictures(self, run: Run) -> dict[str, np.ndarray]:
        """None: the looks that `gaussian.measure` writes are drawn."""
        return {}


def known(asked: Asked) -> Modes | Line:
    """InputError for options that such data cannot have."""
    names = {
        "conditional": "--conditional",
        "image_size": "--image-size",
        "judge": "--judge",
        "weights": "--judge-weights",
    }
    odd = [option for name, option in names.items() if getattr(asked, name)]
    if odd:
        raise InputError(f"--data {asked.data} has neither classes nor images, so it takes no {' and no '.join(odd)}.")
    if asked.data == "gaussian-1d":
        return Line(gaussian.samples())
    mixture = mixtures.named(asked.data)
    return Modes(mixture, Samples(mixture.sample(mixtures.TRAINING, seed=0), source=mixture.name))
