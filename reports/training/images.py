"""How well does a generator of images do: recognised by a judge, near to the data, and no copy of it?"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advgan import measures
from advgan.measures import Features, pixels
from advgan.run import Run
from advgan.samples import Samples
from attacks.errors import InputError
from reports.sources import models
from reports.training import data
from reports.training.data import Material
from reports.training.measured import MEASURES

DIGITS = "digits:standard"  # the judge of the digits
MOST = 10_000  # samples that are measured
PER_CLASS = 12  # samples shown
NEAREST = 12  # pairs shown
NOISE = 1  # seed of the samples that are measured; those that are shown have 0


@dataclass(frozen=True, eq=False)
class Images:
    """Images from a source, parted in two, and a judge that recognises their classes."""

    material: Material
    conditional: bool
    judge: str | None
    classifier: nn.Module | None
    features: str = "pixels"
    space: Features = pixels  # what they are called, and how they are made of images in [0, 1]
    every = None

    @classmethod
    def of(
        cls,
        spec: str,
        *,
        conditional: bool | None,
        image_size: int | None,
        root: Path | None,
        judge: str | None,
        weights: Path | None,
    ) -> "Images":
        """A judge that was named also makes the features. InputError for data or a judge that cannot be used."""
        if weights is not None and judge is None:
            raise InputError(f"--judge-weights {weights} belongs to a --judge, and none is named.")
        material = data.images(spec, conditional=conditional, image_size=image_size, root=root)
        use = material.training.classes is not None
        if judge is not None:
            classifier = _classifier(judge, weights, material)
            features = f"the penultimate layer of {judge}"
            return cls(material, use, judge, classifier, features, measures.penultimate(classifier))
        if spec == "digits" and use:
            return cls(material, use, DIGITS, _classifier(DIGITS, None, material))
        return cls(material, use, None, None)

    @property
    def training(self) -> Samples:
        return self.material.training

    @property
    def about(self) -> dict[str, Any]:
        return self.material.about

    def measure(self, run: Run, critic: nn.Module) -> dict[str, float]:
        """At the end all of it, with the same of the images held out as "real_..."; on the way what is quick."""
        x = self._drawn(run)
        if run.step < run.recipe.steps:
            return {
                "samples": float(len(x)),
                **self._recognised(x),
                "frechet": measures.frechet(self._real, self.space(x)),
            }
        held = self._scores(unit(self.material.held_out.x[:MOST]))
        return self._scores(x) | {f"real_{name}": value for name, value in held.items() if name in MEASURES}

    def pictures(self, run: Run) -> dict[str, np.ndarray]:
        """x, y: samples for the grid, of all classes in turn; the rest: see `copies`."""
        n = PER_CLASS * (run.classes or 4)
        shown = run.sample(n, None if run.classes is None else torch.arange(n) % run.classes)
        labels = np.arange(n) % (run.classes or 1)
        return {"x": shown.numpy(), "y": labels, **self.copies(self._drawn(run))}

    def copies(self, x: Tensor) -> dict[str, np.ndarray]:
        """copied, near [NEAREST, ...]: the samples nearest to a training image, and that image; how far apart they are.

        distance [n], real_distance [m]: of each sample, and of each image held out, to the nearest training image;
        Euclidean, pixels in [0, 1].
        """
        training = unit(self.training.x)
        distance, nearest = (column[:, 0] for column in measures.nearest(x, training))
        chosen = distance.argsort()[:NEAREST]
        real = measures.nearest(unit(self.material.held_out.x[:MOST]), training)[0][:, 0]
        return {
            "copied": x[chosen].numpy(),
            "near": training[nearest[chosen]].numpy(),
            "copied_distance": distance[chosen].numpy(),
            "distance": distance.numpy(),
            "real_distance": real.numpy(),
        }

    def _drawn(self, run: Run) -> Tensor:
        """As many as are held out, of the same classes."""
        labels = self.material.held_out.labels
        n = min(MOST, len(self.material.held_out.x))
        return run.sample(n, labels[:n] if labels is not None and run.classes else None, NOISE)

    def _scores(self, x: Tensor) -> dict[str, float]:
        found = measures.compare(self._real, self.space(x))
        found["reference"] = found.pop("real")  # "real" is the mean score of real images in a run's history
        return self._recognised(x) | found

    def _recognised(self, x: Tensor) -> dict[str, float]:
        """The share of x [n, ...], of the classes of the images held out, that the judge takes for their class."""
        labels = self.material.held_out.labels
        if self.classifier is None or labels is None:
            return {}
        return {"recognised": measures.recognised(self.classifier, x, labels[: len(x)]).share}

    @cached_property
    def _real(self) -> Tensor:
        return self.space(unit(self.training.x[:MOST]))


def unit(x: Tensor) -> Tensor:
    """From the game's [-1, 1] to [0, 1]."""
    return (x + 1) / 2


def _classifier(judge: str, weights: Path | None, material: Material) -> nn.Module:
    found = models.load(judge, weights=weights)
    if len(found) > 1:
        raise InputError(f"--judge {judge} means {', '.join(found)}. Name one, say --judge digits:standard.")
    model = next(iter(found.values()))
    _try(judge, model, material)
    return model


def _try(judge: str, model: nn.Module, material: Material) -> None:
    """InputError unless the judge answers the images held out, with as many classes as they have if they have any."""
    known, classes = (
        models.classes_of(f"--judge {judge}", model, unit(material.held_out.x[:2])),
        material.training.classes,
    )
    if classes and known != classes:
        raise InputError(
            f"--judge {judge} knows {known} classes; logits [b, {classes}] are needed, one for each class."
        )
