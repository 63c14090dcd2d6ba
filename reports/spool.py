"""How do batches of records wait on disk, and become the tables and arrays of a finished audit?"""

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 1 << 16  # rows; fixed, so that the bytes do not depend on how the rows came


class Spool:
    """A file of records of one size, appended to as batches come."""

    def __init__(self, path: Path, dtype: np.dtype):
        self.path, self.dtype = path, dtype

    def append(self, records: np.ndarray) -> None:
        _append(self.path, np.ascontiguousarray(records))

    def load(self) -> np.ndarray:
        return np.fromfile(self.path, dtype=self.dtype)


def _append(path: Path, records: np.ndarray) -> None:
    with path.open("ab") as file:
        file.write(records.tobytes())


def records_of(dtype: np.dtype, columns: tuple[np.ndarray, ...]) -> np.ndarray:
    records = np.zeros(len(columns[0]), dtype)
    for name, column in zip(dtype.names or (), columns, strict=True):
        if np.shape(column) != records.shape:
            raise ValueError(f"{name} has shape {list(np.shape(column))}, the batch has {len(records)} rows.")
        records[name] = column
    return records


def write_table(path: Path, names: tuple[str, ...], dtype: np.dtype, spools: dict[tuple[str, ...], Spool]) -> None:
    """A parquet file: the parts of the keys as columns `names`, then the records, by key and id."""
    keys = [list(dict.fromkeys(key[k] for key in spools)) for k in range(len(names))]
    fields = [(name, pa.dictionary(pa.int32(), pa.string())) for name in names]
    fields += [(name, pa.from_numpy_dtype(dtype[name])) for name in dtype.names or ()]
    with pq.ParquetWriter(path, pa.schema(fields), compression="zstd") as writer:
        for key in sorted(spools, key=lambda key: [keys[k].index(key[k]) for k in range(len(names))]):
            records = spools[key].load()
            records = records[np.argsort(records["id"], kind="stable")]
            if len(np.unique(records["id"])) < len(records):
                raise ValueError(f"{key}: an example was added twice.")
            for start in range(0, len(records), ROW_GROUP):
                writer.write_table(_table(writer.schema, names, keys, key, records[start : start + ROW_GROUP]))


def _table(schema: pa.Schema, names: tuple, keys: list[list[str]], key: tuple, records: np.ndarray) -> pa.Table:
    def constant(k: int) -> pa.Array:
        where = np.full(len(records), keys[k].index(key[k]), np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(where), pa.array(keys[k], pa.string()))

    columns = [constant(k) for k in range(len(names))]
    columns += [pa.array(np.ascontiguousarray(records[name])) for name in records.dtype.names or ()]
    return pa.Table.from_arrays(columns, schema=schema)


def write_npz(path: Path, ids: np.ndarray, spool: Spool, order: np.ndarray) -> None:
    """id [m] and x [m, ...], row by row from the spool: np.savez_compressed would hold or map them all."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("id.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, ids, allow_pickle=False)
        with archive.open("x.npy", "w", force_zip64=True) as file, spool.path.open("rb") as inputs:
            shape = (len(order), *spool.dtype.shape)
            header = {"descr": spool.dtype.base.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for k in order.tolist():
                inputs.seek(k * spool.dtype.itemsize)
                file.write(inputs.read(spool.dtype.itemsize))
