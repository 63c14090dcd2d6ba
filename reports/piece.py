"""What does one shard of an audit leave, and how does it lie in a parquet file?

One table for everything, told apart by its column `kind`: rows, curves, certificates, noise, pictures and the examples'
digests. What is said of the model stands in the file's metadata, as JSON. No clock time is in it: the same shard is the
same bytes.
"""

import io
import json
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attacks.errors import InputError

FORMAT = 1
TOLD = b"advgan"

Key = tuple[str, str]  # (threat or norm, attack)


class Piece:
    """Tables by kind, what is told of the model, and seconds by (threat, attack)."""

    def __init__(self, told: dict[str, Any] | None = None):
        self.tables: dict[str, list[pa.Table]] = {}
        self.told: dict[str, Any] = told or {}
        self.seconds: dict[Key, float] = {}

    def add(self, kind: str, /, **columns: Any) -> None:
        """Arrays [n], lists of n, or one text for all of them."""
        n = next(len(column) for column in columns.values() if not isinstance(column, str))
        arrays = {
            name: pa.array([column] * n if isinstance(column, str) else column) for name, column in columns.items()
        }
        self.tables.setdefault(kind, []).append(pa.table(arrays))

    def took(self, key: Key, seconds: float) -> None:
        self.seconds[key] = self.seconds.get(key, 0.0) + seconds

    def join(self, other: Self) -> None:
        """Take in what was found on more examples."""
        for kind, tables in other.tables.items():
            self.tables.setdefault(kind, []).extend(tables)
        self.told = joined(self.told, other.told)
        for key, seconds in other.seconds.items():
            self.took(key, seconds)

    def of(self, kind: str) -> pd.DataFrame:
        """Everything of a kind, in the order in which it was added."""
        tables = self.tables.get(kind, [])
        return pa.concat_tables(tables, promote_options="default").to_pandas() if tables else pd.DataFrame()

    def groups(self, kind: str) -> Iterator[tuple[Key, pd.DataFrame]]:
        """What is of a kind, by threat and attack."""
        frame = self.of(kind)
        if len(frame):
            for key, rows in frame.groupby(["threat", "attack"], sort=False):
                threat, attack = key  # type: ignore[misc]  # two columns, two names
                yield (str(threat), str(attack)), rows

    def encoded(self) -> bytes:
        tables = [
            table.append_column("kind", pa.array([kind] * len(table), pa.string()))
            for kind, parts in self.tables.items()
            for table in parts
        ]
        about = {TOLD: json.dumps({"format": FORMAT, **self.told}).encode()}
        file = io.BytesIO()
        whole = pa.concat_tables(tables, promote_options="default").replace_schema_metadata(about)
        pq.write_table(whole, file, compression="zstd")
        return file.getvalue()

    @classmethod
    def decoded(cls, content: bytes) -> Self:
        """InputError where it is no piece of ours; ArrowException where it is no parquet file."""
        table = pq.read_table(io.BytesIO(content))
        told = json.loads((table.schema.metadata or {}).get(TOLD, b"{}"))
        if told.pop("format", None) != FORMAT:
            raise InputError("A shard was written by another version of advgan. Run the audit again.")
        piece = cls(told)
        kinds = table.column("kind").to_pylist()
        for kind in dict.fromkeys(kinds):
            rows = table.filter(pa.array([each == kind for each in kinds])).drop_columns(["kind"])
            piece.tables[kind] = [rows.select([n for n in rows.column_names if rows.column(n).null_count < len(rows)])]
        return piece


def joined(a: Any, b: Any) -> Any:
    """Dictionaries entry by entry, lists one after the other, numbers added, of anything else the first."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {name: joined(a[name], b[name]) if name in a and name in b else {**a, **b}[name] for name in {**a, **b}}
    if isinstance(a, list) and isinstance(b, list):
        return a + b
    return a + b if isinstance(a, int) and isinstance(b, int) else a


def packed(x: np.ndarray) -> list[bytes]:
    """The bytes of each of x [n, ...], as float32."""
    return [row.tobytes() for row in np.ascontiguousarray(x, dtype=np.float32)]


def unpacked(rows: Any, shape: tuple[int, ...]) -> np.ndarray:
    """[n, *shape] float32; zeros where there are no bytes."""
    blank = np.zeros(shape, np.float32).tobytes()
    whole = b"".join(row if isinstance(row, bytes) else blank for row in rows)
    return np.frombuffer(whole, np.float32).reshape(-1, *shape)
