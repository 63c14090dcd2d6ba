"""What does a generator learn from, and what is it measured against? Texts such as `digits`, `ring` or `photos/`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advgan.samples import Samples
from attacks.errors import InputError
from reports import zoo
from reports.provenance import DataHash
from reports.sources import data as sources
from reports.sources.dataset import Batch, Dataset

HELD_OUT = 5  # one in so many images is kept from training, where the data have no test split of their own
AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Material:
    """Images to learn from, those to measure with, and what is said of both."""

    training: Samples
    held_out: Samples
    about: dict[str, Any]  # JSON-able


def images(spec: str, *, conditional: bool | None, image_size: int | None, root: Path | None) -> Material:
    """Images [N, C, H, W] within [-1, 1], parted in two.

    conditional: None where the data decide: labels are used where there are two classes or more.
    The digits are parted as for the classifiers that come with advgan, torchvision's sets as they come; of all others
    every fifth image of a class is held out. Raises InputError for what cannot be found or trained on.
    """
    if spec == "digits":
        if image_size is not None:
            raise InputError("--image-size is for images read from files; digits is an array and is taken as it is.")
        training, held = (Batch(torch.arange(len(y)), x, y) for x, y in (zoo.training(), zoo.held_out()))
        return _material(spec, training, held, [str(k) for k in range(10)], conditional)
    labelled = conditional is not False
    if spec.startswith("torchvision:"):
        training, held = (sources.load(spec, image_size=image_size, root=root, training=part) for part in (True, False))
        return _material(spec, _whole(training), _whole(held), training.classes, conditional)
    found = sources.load(spec, image_size=image_size, root=root, labelled=labelled)
    everything = _whole(found)
    chosen = torch.from_numpy(held_out(everything.labels.numpy()))
    training, held = (Batch._make(column[rows] for column in everything) for rows in (~chosen, chosen))
    return _material(spec, training, held, found.classes, conditional)


def held_out(labels: np.ndarray) -> np.ndarray:
    """[N] bool: every fifth of the examples sorted by class, so that each class gives a fifth of its own."""
    held = np.zeros(len(labels), dtype=bool)
    held[np.argsort(labels, kind="stable")[HELD_OUT // 2 :: HELD_OUT]] = True
    return held


def _whole(dataset: Dataset) -> Batch:
    check_shape(dataset.name, dataset.shape)
    columns = zip(*dataset.batches(None, AT_ONCE), strict=True)
    return Batch._make(torch.cat(column) for column in columns)


def check_shape(name: str, shape: tuple[int, ...]) -> None:
    """InputError unless it is the shape of square images whose side is a multiple of 4."""
    if len(shape) != 3:
        raise InputError(
            f"{name} holds vectors {list(shape)}; this trains on images. Save x as [N, H, W] or [N, H, W, C]."
        )
    height, width = shape[1:]
    side = 4 * round(min(height, width) / 4) or 4
    if height != width or height % 4:
        raise InputError(
            f"{name} holds images of {height} x {width} pixels; a square whose side is a multiple of 4 is needed. "
            f"Of image files: --image-size {side}; of arrays: pad or crop them to {side} x {side}."
        )


def _material(name: str, training: Batch, held: Batch, classes: list[str], conditional: bool | None) -> Material:
    check_shape(name, tuple(training.x.shape[1:]))
    if not len(held.x):
        raise InputError(f"{name} has {len(training.x)} images, too few to hold one in {HELD_OUT} out. Name more.")
    use = len(classes) > 1 if conditional is None else conditional
    about = {
        "name": name,
        "shape": list(training.x.shape[1:]),
        "classes": classes if use else [],
        "training": len(training.x),
        "held_out": len(held.x),
        "sha256": _hash(training, held),
    }
    known = len(classes) if use else None
    return Material(_samples(name, training, known), _samples(name, held, known), about)


def _samples(name: str, part: Batch, classes: int | None) -> Samples:
    return Samples(in_game(part.x), part.labels if classes else None, classes, name)


def in_game(x: Tensor) -> Tensor:
    """From [0, 1] to the [-1, 1] of the game."""
    return 2 * x - 1


def _hash(*parts: Batch) -> str:
    seen = DataHash()
    for part in parts:
        seen.add(part)
    return seen.hexdigest()
