"""A data set, opened for PyTorch: any row by its number, its shards read as they are needed."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from attacks.errors import InputError
from reports.dataset.manifest import FILE, Manifest
from reports.dataset.shards import Shard, files_of, read_rows, read_shard
from reports.sources.dataset import unit_floats

AT_HAND = 2**30  # bytes of decoded inputs that are kept


class AdversarialDataset(Dataset):
    """Rows of a finished set: (x, label), and (x, label, clean) where it was opened with clean=True.

    x, clean: [...] float32 within [0, 1]; label: int. `rows` is a pandas data frame with one row for each, so that
    torch.utils.data.Subset(data, np.flatnonzero(data.rows.verified)) is what was verified. `manifest` and `classes`
    tell the rest.
    """

    def __init__(self, folder: Path | str, clean: bool = False):
        self.manifest = Manifest.load(folder)
        self.layout, self.clean = self.manifest.layout, clean
        if clean and not self.layout.pairs:
            raise InputError(f"{folder} holds no clean inputs. Make the set with --pairs.")
        self.classes = self.layout.classes
        parts = [read_rows(self.manifest.folder, k, self.layout) for k in range(len(self.manifest.rows_in))]
        for number, (part, told) in enumerate(zip(parts, self.manifest.rows_in, strict=True)):
            _check_length(part, told, number, self.manifest)
        self.rows = pd.concat(parts, ignore_index=True)
        self._ends = np.cumsum(self.manifest.rows_in)
        self._open()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        number = int(np.searchsorted(self._ends, index, side="right"))
        shard, at = self._shard(number), index - int(self._ends[number])
        label = int(shard.rows.label.iloc[at + len(shard.rows)])
        pair = (shard.clean,) if self.clean else ()
        return (_unit(shard.x, at), label, *(_unit(x, at) for x in pair if x is not None))

    def _open(self) -> None:
        per_row = math.prod(self.layout.shape) * (4 if self.layout.encoding == "float32" else 1)
        largest = max(1, *self.manifest.rows_in) * per_row * (2 if self.layout.pairs else 1)
        self._shard = lru_cache(max(1, AT_HAND // largest))(self._read)

    def _read(self, number: int) -> Shard:
        return read_shard(self.manifest.folder, number, self.layout)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: each reads for itself."""
        return {name: value for name, value in vars(self).items() if name != "_shard"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def open(folder: Path | str, clean: bool = False) -> AdversarialDataset:  # reports.dataset.open
    """The set that `advgan dataset` wrote. InputError where it is none, or not whole.

    clean: give the clean inputs too, of a set made with pairs.
    """
    return AdversarialDataset(folder, clean)


def _unit(x: np.ndarray, at: int) -> Tensor:
    return torch.from_numpy(unit_floats(x[at]))


def _check_length(rows: pd.DataFrame, told: int, number: int, manifest: Manifest) -> None:
    if len(rows) != told:
        raise InputError(
            f"{manifest.folder / files_of(number, manifest.layout)} has {len(rows)} rows and {FILE} says {told}. "
            "See `advgan dataset verify`; make the set again."
        )
