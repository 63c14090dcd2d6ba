"""What is a data set to an audit? Labelled examples with ids, read batch by batch."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attacks.errors import InputError

MOST_CLASSES = 100_000  # a larger label is an identifier, not a class number

Pieces = Iterator[tuple[np.ndarray, np.ndarray]]


class Batch(NamedTuple):
    ids: Tensor  # [b] int64, places in the data set
    x: Tensor  # [b, C, H, W] or [b, D] float32 within the bounds
    labels: Tensor  # [b] int64


@dataclass(frozen=True)
class Dataset:
    """Labelled examples, converted as they are asked for.

    shape: of one example, (C, H, W) or (D,).
    read: (examples, batch_size) gives the first examples in order, as pieces x [b, *shape] (uint8 or float) and
        y [b] int64, each of batch_size rows but the last.
    bounds: (low, high), numbers, or tensors [*shape], one per feature.
    mask: [*shape], 1 where an attacker may write and 0 where not; None is everywhere.
    notes: sentences on what was taken for granted when it was read.
    part: (start, stop) gives these examples, x and y as `read` does; None: they are found by reading up to them.
    """

    name: str
    classes: list[str]
    shape: tuple[int, ...]
    count: int
    read: Callable[[int, int], Pieces]
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0)
    mask: Tensor | None = None
    notes: tuple[str, ...] = ()
    part: Callable[[int, int], tuple[np.ndarray, np.ndarray]] | None = None

    def plain(self, who: str) -> "Dataset":
        """Itself; InputError where it has other bounds than 0 and 1, or a mask, which `who` does not know of."""
        if self.mask is not None or any(isinstance(bound, Tensor) for bound in self.bounds):
            raise InputError(
                f"{who} takes inputs within 0 to 1 that may change anywhere, and {self.name} has bounds or immutable "
                "columns of its own. `advgan audit` and `advgan doctor` take it."
            )
        return self

    def __len__(self) -> int:
        return self.count

    def batches(self, examples: int | None, batch_size: int) -> Iterator[Batch]:
        """The first `examples`; None, or more than there are, takes all. InputError for less than one."""
        if examples is not None and examples < 1:
            raise InputError(f"examples={examples}: an audit needs at least one example.")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: at least one example a batch is needed.")
        start = 0
        for x, y in self.read(min(examples or self.count, self.count), batch_size):
            yield _batch(start, x, y)
            start += len(x)

    def between(self, start: int, stop: int) -> Batch:
        """The examples from `start` on, those before `stop`."""
        if self.part is not None:
            return _batch(start, *self.part(start, stop))
        pieces = list(itertools.islice(self.read(stop, stop - start), start // (stop - start), None))
        x, y = (np.concatenate(arrays)[start - stop :] for arrays in zip(*pieces, strict=True))
        return _batch(start, x, y)


def _batch(start: int, x: np.ndarray, y: np.ndarray) -> Batch:
    ids = torch.arange(start, start + len(x))
    return Batch(ids, torch.from_numpy(unit_floats(x)), torch.from_numpy(y.astype(np.int64)))


def unit_floats(x: np.ndarray) -> np.ndarray:
    """float32 within [0, 1], contiguous: uint8 is divided by 255, floats stay what they are."""
    floats = np.array(x, dtype=np.float32, order="C")
    return floats / np.float32(255) if x.dtype == np.uint8 else floats


def class_names(names: list[str] | None, largest: int, what: str) -> list[str]:
    """The classes' names, or their numbers where they have none; InputError where a label is beyond them."""
    if largest >= MOST_CLASSES:
        raise InputError(f"{what} has the label {largest}; labels are class numbers from 0. Renumber the classes.")
    if names is not None and largest >= len(names):
        raise InputError(
            f"{what} has the label {largest} and names {len(names)} classes: labels must be 0 to {len(names) - 1}."
        )
    return list(names) if names is not None else [str(k) for k in range(largest + 1)]
