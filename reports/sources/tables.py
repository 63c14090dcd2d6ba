"""How is a CSV file of numbers read, with the bounds of its columns and those that nobody can change?

Beside FILE.csv may stand FILE.json:

    {"label": "income", "classes": ["low", "high"], "bounds": {"age": [17, 90]}, "immutable": ["sex"]}
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attacks.errors import InputError, unknown
from reports.sources.dataset import Dataset, Pieces, class_names
from reports.sources.limits import check_count, check_room

LABELS = ("label", "y", "target", "class")  # taken for the labels where FILE.json names none
KNOWN = ("label", "classes", "bounds", "immutable")
MOST_COLUMNS = 100_000
SWOLLEN = 8  # times the size of its text that a table may take


@dataclass(frozen=True)
class Asked:
    """FILE.json, checked."""

    label: str | None = None
    classes: list[str] | None = None
    bounds: dict[str, tuple[float, float]] | None = None
    immutable: tuple[str, ...] = ()

    @classmethod
    def beside(cls, path: Path) -> "Asked":
        file = path.with_suffix(".json")
        if not file.is_file():
            return cls()
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{file} cannot be read ({error}). Write it as JSON.") from error
        if not isinstance(said, dict):
            raise InputError(f"{file} is {type(said).__name__}; an object with {', '.join(KNOWN)} is needed.")
        for name in said:
            if name not in KNOWN:
                raise unknown(f"entry of {file}", name, KNOWN)
        bounds = said.get("bounds")
        if bounds is not None and not (isinstance(bounds, dict) and all(_is_pair(each) for each in bounds.values())):
            raise InputError(f'{file}: bounds are {{"column": [low, high], ...}}, with low not above high.')
        label = said.get("label")
        if label is not None and not isinstance(label, str):
            raise InputError(f"{file}: label is {label!r}; the name of a column is needed.")
        classes, immutable = _names(file, said, "classes"), _names(file, said, "immutable")
        return cls(label, classes or None, bounds, tuple(immutable))


def load_table(path: Path) -> Dataset:
    """One row per example: a column of labels (integers, or names), every other one a feature.

    Bounds are those of FILE.json, and of other columns the least and largest value in the file, which is told. The
    mask forbids the immutable columns. InputError for columns that are no numbers, missing values, unknown names.
    """
    asked = Asked.beside(path)
    frame = _frame(path)
    label = asked.label or next((name for name in LABELS if name in frame.columns), None)
    if label is None or label not in frame.columns:
        raise unknown(f"column of labels in {path}", asked.label or "label", list(frame.columns)[:20])
    y, classes = _labels(pd.Series(frame[label]), asked.classes, path)
    features = frame.drop(columns=label)
    _check_names(asked, list(features.columns), path)
    x = _numbers(features, path)
    low, high, notes = _bounds(asked, list(features.columns), x, path)
    mask = torch.tensor([float(name not in asked.immutable) for name in features.columns])

    def read(examples: int, batch_size: int) -> Pieces:
        for start in range(0, examples, batch_size):
            rows = slice(start, min(start + batch_size, examples))
            yield x[rows], y[rows]

    unit = bool((low == 0).all() and (high == 1).all())
    return Dataset(
        str(path),
        classes,
        (x.shape[1],),
        len(x),
        read,
        bounds=(0.0, 1.0) if unit else (low, high),
        mask=mask if asked.immutable else None,
        notes=notes,
    )


def _is_pair(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(isinstance(each, int | float) for each in value)
    return numbers and all(abs(float(each)) <= 3e38 for each in value) and value[0] <= value[1]


def _names(file: Path, said: dict[str, Any], entry: str) -> list[str]:
    names = said.get(entry) or []
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise InputError(f"{file}: {entry} is {names!r}; a list of names is needed.")
    return names


def _frame(path: Path) -> pd.DataFrame:
    check_room(str(path), path.stat().st_size * SWOLLEN)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            frame = pd.read_csv(file, low_memory=False)
    except (OSError, ValueError, OverflowError, MemoryError, pd.errors.ParserError) as error:
        raise InputError(f"{path} is not a CSV file with a line of names ({error}).") from error
    if frame.empty or not isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{path} holds no rows, or rows longer than its line of names. One name per column is needed.")
    if frame.shape[1] > MOST_COLUMNS:
        raise InputError(f"{path} has {frame.shape[1]:,} columns; at most {MOST_COLUMNS:,} are taken.")
    check_count(str(path), len(frame))
    return frame


def _labels(column: pd.Series, classes: list[str] | None, path: Path) -> tuple[np.ndarray, list[str]]:
    """[N] int64 class numbers, and the classes' names: those given, or the values in their order."""
    if column.isna().any():
        raise InputError(f"{path}: {int(column.isna().sum())} labels are missing. Drop those rows.")
    if pd.api.types.is_integer_dtype(column):
        y = column.to_numpy()
        if y.min() < 0:
            raise InputError(f"{path}: the label {y.min()} is negative; classes count from 0.")
        return y.astype(np.int64), class_names(classes, int(y.max()), str(path))
    if pd.api.types.is_float_dtype(column):
        raise InputError(f"{path}: the labels are floats; classes are whole numbers from 0, or names.")
    values = column.astype(str)
    names = classes or sorted(values.unique())
    class_names(names, len(names) - 1, str(path))
    places = {name: k for k, name in enumerate(names)}
    odd = sorted(set(values) - set(places))
    if odd:
        raise InputError(f"{path} has the label {odd[0]!r}, which is not among the classes {', '.join(names[:20])}.")
    return values.map(places).to_numpy(dtype=np.int64), names


def _check_names(asked: Asked, columns: list[str], path: Path) -> None:
    if not columns:
        raise InputError(f"{path} has no column but the labels.")
    for name in (*(asked.bounds or {}), *asked.immutable):
        if name not in columns:
            raise unknown(f"feature in {path}", name, columns[:20])


def _numbers(features: pd.DataFrame, path: Path) -> np.ndarray:
    """[N, D] float32."""
    text = [str(name) for name in features.columns if not pd.api.types.is_numeric_dtype(features[name])]
    if text:
        raise InputError(f"{path}: the column {text[0]} is no numbers. Encode it, as the model takes it.")
    with np.errstate(over="ignore"):
        x = features.to_numpy(dtype=np.float32)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{path}: {features.columns[column]} is missing or infinite in row {row} ({len(bad)} such values). "
            "Fill them in, or drop those rows."
        )
    return x


def _bounds(asked: Asked, columns: list[str], x: np.ndarray, path: Path) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """[D] each, and a note where they are the data's own."""
    low, high = x.min(0), x.max(0)
    given = asked.bounds or {}
    for name, (least, most) in given.items():
        k = columns.index(name)
        if low[k] < np.float32(least) or high[k] > np.float32(most):
            raise InputError(f"{path}: {name} runs from {low[k]:g} to {high[k]:g}, beyond its {least} to {most}.")
        low[k], high[k] = least, most
    seen = [name for name in columns if name not in given]
    notes = ()
    if seen:
        some = f"{', '.join(seen[:3])}{' and more' if len(seen) > 3 else ''}"
        notes = (
            f"{path}: {len(seen)} of {len(columns)} columns ({some}) have no bounds in "
            f"{path.with_suffix('.json').name}: the least and largest values in the file are taken.",
        )
    return torch.from_numpy(low), torch.from_numpy(high), notes
