"""Objects of tensors with one entry per row, cut and joined as one."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Self

import torch
from torch import Tensor

from . import kernels


class PerRow:
    """An object whose tensors are [B, ...], one entry per row, as are those of the PerRow objects in it."""

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy whose tensors are changed; what is no tensor stays."""
        copy = object.__new__(type(self))
        vars(copy).update({name: _changed(part, change) for name, part in vars(self).items()})
        return copy

    def keep(self, rows: Tensor | slice) -> Self:
        """These rows alone."""
        return self.each(lambda tensor: tensor[rows])


def keep_of_all(parts: list[Any], rows: Tensor) -> list[Any]:
    """Each part with these rows [k] int64 alone, where it is a tensor [b, ...] or has an `each`; all in one launch.

    What belongs to several parts is cut once, and belongs to them still.
    """
    whole: dict[tuple, Tensor] = {}
    for part in parts:
        _changed(part, lambda tensor: whole.setdefault(_place(tensor), tensor))
    kept = dict(zip(whole, kernels.take_rows(list(whole.values()), rows), strict=True))
    return [_changed(part, lambda tensor: kept[_place(tensor)]) for part in parts]


def _changed(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(part, Tensor):
        return change(part)
    return part.each(change) if hasattr(part, "each") else part


def _place(tensor: Tensor) -> tuple:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


class Columns(PerRow):
    """A dataclass whose fields are tensors [B, ...], other Columns, or None."""

    def to(self, device: torch.device) -> Self:
        return self.each(lambda column: column.to(device))

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
