"""How are images and labels read from a parquet file as Hugging Face writes them?"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attacks.errors import InputError
from reports.sources.dataset import Dataset, Pieces, class_names
from reports.sources.images import LOOK_AT, Frame, Picture, stacked
from reports.sources.limits import check_count

AT_ONCE = 1024  # rows of labels looked at at a time


def load_parquet(path: Path, *, image_size: int | None = None) -> Dataset:
    """Columns `image` (struct of bytes and path, or bytes) and `label` (class numbers); read a batch at a time."""
    schema, count = _schema(path)
    _check_columns(schema, path)
    check_count(str(path), count)
    if count == 0:
        raise InputError(f"{path} is empty: it has no rows. At least one example is needed.")
    classes = class_names(_class_names(schema), _largest_label(path), str(path))
    frame = Frame.of(_pictures(path, LOOK_AT, LOOK_AT), image_size)

    def read(examples: int, batch_size: int) -> Pieces:
        return stacked(_pictures(path, examples, batch_size), frame, batch_size)

    return Dataset(str(path), classes, frame.shape, count, read)


def _schema(path: Path) -> tuple[pa.Schema, int]:
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except Exception as error:  # Arrow raises its own, and OSError
        raise _unreadable(path, error) from error


def _check_columns(schema: pa.Schema, path: Path) -> None:
    missing = [name for name in ("image", "label") if name not in schema.names]
    if missing:
        there = ", ".join(schema.names)
        raise InputError(f"{path} has the columns {there}; {' and '.join(missing)} not found. Rename the columns.")
    image, label = schema.field("image").type, schema.field("label").type
    inner = image.field("bytes").type if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0 else image
    if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise InputError(f"{path}: image is {image}; encoded images are needed, as bytes or as a struct with bytes.")
    if not pa.types.is_integer(label):
        raise InputError(f"{path}: label is {label}; class numbers are integers. Convert the column to int64.")


def _class_names(schema: pa.Schema) -> list[str] | None:
    """The names in Hugging Face's own metadata, where there are any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _largest_label(path: Path) -> int:
    largest = 0
    for batch in _record_batches(path, ["label"], AT_ONCE):
        labels = batch.column("label")
        if labels.null_count:
            raise InputError(f"{path}: {labels.null_count} labels are missing. Drop those rows.")
        low, high = int(np.asarray(labels).min()), int(np.asarray(labels).max())
        if low < 0:
            raise InputError(
                f"{path}: the label {low} is negative; classes count from 0. Is it an unlabelled test set?"
            )
        largest = max(largest, high)
    return largest


def _pictures(path: Path, examples: int, batch_size: int) -> Iterator[Picture]:
    row = 0
    for batch in _record_batches(path, ["image", "label"], min(examples, batch_size)):
        images, labels = batch.column("image"), np.asarray(batch.column("label"))
        for image, label in itertools.islice(zip(images, labels, strict=True), examples - row):
            value = image.as_py()
            data = value.get("bytes") if isinstance(value, dict) else value
            name = f"The image in row {row} of {path}"
            if data is None:
                raise InputError(f"{name} has no bytes. Write the file with its images embedded.")
            yield Picture(name, data, int(label))
            row += 1
        if row >= examples:
            return


def _record_batches(path: Path, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            yield from file.iter_batches(batch_size=rows, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is not a whole parquet file ({error}). Write it again.")
