"""How is a split of torchvision's read, and fetched where there is a network?"""

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacks.errors import InputError, unknown
from reports.sources.dataset import Dataset, Pieces
from reports.sources.images import Frame, Picture, stacked

Options = dict[str, Any]
FLAG: tuple[Options, Options] = ({"train": False}, {"train": True})
SPLIT: tuple[Options, Options] = ({"split": "test"}, {"split": "train"})
BOTH: tuple[Options, Options] = ({"split": "test"}, {"split": "trainval"})
SETS = {  # what gives the test split, what the training split
    "CIFAR10": FLAG,
    "CIFAR100": FLAG,
    "MNIST": FLAG,
    "FashionMNIST": FLAG,
    "KMNIST": FLAG,
    "SVHN": SPLIT,
    "STL10": SPLIT,
    "Food101": SPLIT,
    "FGVCAircraft": BOTH,
    "OxfordIIITPet": BOTH,
}
PATIENCE = 30.0  # seconds without an answer after which there is no network


def load_torchvision(
    spec: str, *, image_size: int | None = None, root: Path | None = None, training: bool = False
) -> Dataset:
    """`torchvision:NAME`, its test split or its training split; found under `root`, or downloaded into it."""
    name = spec.partition(":")[2]
    if name not in SETS:
        raise unknown("torchvision data set", name, SETS)
    examples = _opened(name, root or _default_root(), SETS[name][training])
    if len(examples) == 0:
        raise InputError(f"{spec} is empty. Delete its files and fetch them again.")

    def pictures() -> Iterator[Picture]:
        for k in range(len(examples)):
            image, label = examples[k]
            yield Picture(f"Image {k} of {spec}", image, int(label))

    frame = Frame.of(pictures(), image_size)
    names = [str(name) for name in getattr(examples, "classes", range(10))]

    def read(count: int, batch_size: int) -> Pieces:
        return stacked(itertools.islice(pictures(), count), frame, batch_size)

    return Dataset(spec, names, frame.shape, len(examples), read)


def _opened(name: str, root: Path, split: Options) -> Any:
    from torchvision import datasets

    make: Callable[..., Any] = getattr(datasets, name)
    try:
        return make(str(root), download=False, **split)
    except Exception:  # not there, or not whole: each set says it in its own way
        pass
    made = not root.exists()
    try:
        with _impatient():
            return make(str(root), download=True, **split)
    except Exception as error:
        if made:
            _remove_empty(root)
        raise InputError(
            f"torchvision:{name} is not whole under {root}, and it could not be downloaded ({error}). "
            f'Where there is a network, run: python -c "from torchvision.datasets import {name}; '
            f"{name}('data', download=True)\" and name that folder with --data-root."
        ) from error


def _default_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "advgan" / "data"


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _remove_empty(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
