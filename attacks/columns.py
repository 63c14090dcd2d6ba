"""Dataclasses of tensors with one entry per row, cut and joined as one."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor


class Columns:
    """A dataclass whose fields are tensors [B, ...], other Columns, or None."""

    def keep(self, rows: Tensor | slice) -> Self:
        """These rows alone."""
        return self._each(lambda column: column.keep(rows) if isinstance(column, Columns) else column[rows])

    def to(self, device: torch.device) -> Self:
        return self._each(lambda column: column.to(device))

    def put(self, at: Tensor, other: Self) -> None:
        """The other's rows take the places `at`, [k] int64 or [B] bool."""
        for field in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, Columns):
                mine.put(at, theirs)
            elif mine is not None:
                mine[at] = theirs

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """One after the other."""
        columns = []
        for field in fields(cls):  # type: ignore[arg-type]
            several = [getattr(part, field.name) for part in parts]
            first = several[0]
            if isinstance(first, Columns):
                columns.append(first.joined(several))
            else:
                columns.append(None if first is None else torch.cat(several))
        return cls(*columns)

    def _each(self, change: Callable[[Any], Any]) -> Self:
        columns = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return type(self)(*(None if column is None else change(column) for column in columns))
