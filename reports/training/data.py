"""What does a generator learn from, and what is it measured against? Texts such as `digits` or `photos/`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
FEWEST = 6  # images held out: a measure looks at five neighbours of each
AT_ONCE = 1024
AS_THE_ZOO = "as for the classifiers that come with advgan"
AS_THEY_COME = "as the data set comes, in a training and a test split"
EVERY_FIFTH = f"every {HELD_OUT}th example of each class, in the order of the data, is held out"


@dataclass(frozen=True, eq=False)
class Material:
    """Images to learn from, those to measure with, and what is said of both."""

    training: Samples
    held_out: Samples
    about: dict[str, Any]  # JSON-able


class Parted(NamedTuple):
    """Labelled examples in two parts that share none."""

    training: Batch
    held_out: Batch
    classes: list[str]
    how: str  # they were parted, in words


def parted(
    spec: str,
    *,
    image_size: int | None,
    root: Path | None,
    labelled: bool = True,
    check: Callable[[str, tuple[int, ...]], None] | None = None,
) -> Parted:
    """The digits are parted as for the classifiers that come with advgan, torchvision's sets as they come; of all
    others every fifth example of a class is held out.

    check: (name, shape of an example), called before they are read. Raises InputError for what cannot be found.
    """
    if spec == "digits":
        if image_size is not None:
            raise InputError("--image-size is for images read from files; digits is an array and is taken as it is.")
        training, held = (Batch(torch.arange(len(y)), x, y) for x, y in (zoo.training(), zoo.held_out()))
        return Parted(training, held, [str(k) for k in range(10)], AS_THE_ZOO)
    if spec.startswith("torchvision:"):
        both = [sources.load(spec, image_size=image_size, root=root, training=part) for part in (True, False)]
        training, held = (_whole(each, check) for each in both)
        return Parted(training, held, both[0].classes, AS_THEY_COME)
    found = sources.load(spec, image_size=image_size, root=root, labelled=labelled).plain("advgan train")
    everything = _whole(found, check)
    chosen = torch.from_numpy(held_out(everything.labels.numpy()))
    if not bool(chosen.any()):
        raise InputError(f"{spec} has {len(chosen)} examples, too few to hold one in {HELD_OUT} out. Name more.")
    training, held = (Batch._make(column[rows] for column in everything) for rows in (~chosen, chosen))
    return Parted(training, held, found.classes, EVERY_FIFTH)


def images(spec: str, *, conditional: bool | None, image_size: int | None, root: Path | None) -> Material:
    """Images [N, C, H, W] within [-1, 1], parted in two.

    conditional: None where the data decide: labels are used where there are two classes or more.
    Raises InputError for what cannot be found or trained on.
    """
    labelled = conditional is not False
    both = parted(spec, image_size=image_size, root=root, labelled=labelled, check=check_shape)
    if len(both.held_out.x) < FEWEST:
        whole = len(both.training.x) + len(both.held_out.x)
        raise InputError(
            f"{spec} has {whole} images, of which {len(both.held_out.x)} are held out to measure by, and {FEWEST} are "
            f"needed. Give {FEWEST * HELD_OUT} or more."
        )
    use = len(both.classes) > 1 if conditional is None else conditional
    known = len(both.classes) if use else None
    training, held = (_samples(spec, part, known) for part in (both.training, both.held_out))
    return Material(training, held, about(spec, both) | {"classes": both.classes if use else []})


def about(spec: str, both: Parted) -> dict[str, Any]:
    """What is said of the data; JSON-able."""
    return {
        "name": spec,
        "shape": list(both.training.x.shape[1:]),
        "classes": both.classes,
        "training": len(both.training.x),
        "held_out": len(both.held_out.x),
        "parted": both.how,
        "sha256": _hash(both.training, both.held_out),
    }


def held_out(labels: np.ndarray) -> np.ndarray:
    """[N] bool: every fifth of the examples sorted by class, so that each class gives a fifth of its own."""
    held = np.zeros(len(labels), dtype=bool)
    held[np.argsort(labels, kind="stable")[HELD_OUT // 2 :: HELD_OUT]] = True
    return held


def _whole(dataset: Dataset, check: Callable[[str, tuple[int, ...]], None] | None) -> Batch:
    if check is not None:
        check(dataset.name, dataset.shape)
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
