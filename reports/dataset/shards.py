"""How do some examples lie in files, in each of the four formats? The same examples give the same bytes."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from advgan.checkpoint import write
from attacks.errors import InputError
from reports.dataset.asked import slug
from reports.dataset.codec import ENDINGS, decoded, encoded

COLUMNS: dict[str, Any] = {
    "id": "int64",
    "label": "int64",
    "threat": "str",
    "attack": "str",
    "target": "int64",  # -1 where none was aimed at
    "outcome": "str",
    "clean_prediction": "int64",
    "prediction": "int64",
    "size": "float64",
    "margin": "float64",
    "inside": "bool",
    "mended": "bool",
    "queries": "int64",
    "backwards": "int64",
    "verified": "bool",
}
EXACTLY: Any = {"size": "str", "margin": "str"}  # of a CSV file: Python reads back the float it wrote


@dataclass(frozen=True)
class Layout:
    """What all shards of a set have in common.

    shape: of one example; classes: their names; names: (threat, attack) -> the run's name in files.
    """

    format: str
    encoding: str
    shape: tuple[int, ...]
    classes: list[str]
    names: dict[tuple[str, str], str]
    pairs: bool


@dataclass(frozen=True)
class Shard:
    """n examples: their rows, and x [n, ...] uint8, or float32 within [0, 1]; clean the same, or None."""

    rows: pd.DataFrame
    x: np.ndarray
    clean: np.ndarray | None


def write_shard(folder: Path, number: int, shard: Shard, layout: Layout) -> list[str]:
    """The files written, relative to the folder. Each is there whole or not at all."""
    files = {
        "parquet": _parquet,
        "npz": _npz,
        "webdataset": _tar,
        "imagefolder": _images,
    }[layout.format](number, shard, layout)
    for name, content in files:
        write(folder / name, content)
    return [name for name, _ in files]


def read_shard(folder: Path, number: int, layout: Layout) -> Shard:
    """InputError where a file is missing, cut short, or not of this set."""
    name = files_of(number, layout)
    path = folder / name
    read = {"parquet": _read_parquet, "npz": _read_npz, "webdataset": _read_tar, "imagefolder": _read_images}
    try:
        shard = read[layout.format](path, layout)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, tarfile.TarError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}). Make the set again.") from error
    missing = [column for column in COLUMNS if column not in shard.rows]
    if missing or len(shard.x) != len(shard.rows) or shard.x.shape[1:] != layout.shape:
        raise InputError(f"{path} is not a shard of this set: it lacks {', '.join(missing) or 'some inputs'}.")
    return shard


def read_rows(folder: Path, number: int, layout: Layout) -> pd.DataFrame:
    """The rows of a shard alone, where they can be had without its inputs."""
    path = folder / files_of(number, layout)
    try:
        if layout.format == "parquet":
            return typed(pd.read_parquet(path, columns=list(COLUMNS)))
        if layout.format == "imagefolder":
            return typed(pd.read_csv(path, keep_default_na=False, dtype=EXACTLY))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}). Make the set again.") from error
    return read_shard(folder, number, layout).rows


def files_of(number: int, layout: Layout) -> str:
    """The file that holds a shard's rows."""
    ending = {"parquet": "parquet", "npz": "npz", "webdataset": "tar", "imagefolder": "csv"}[layout.format]
    return f"{'rows' if layout.format == 'imagefolder' else 'data'}/shard-{number:05d}.{ending}"


def keys(rows: pd.DataFrame, layout: Layout) -> list[str]:
    """The name of each row: example and run, fit for a file."""
    names = [layout.names[pair] for pair in zip(rows.threat, rows.attack, strict=True)]
    return [f"{id_:07d}-{name}" for id_, name in zip(rows.id.tolist(), names, strict=True)]


def class_folder(label: int, layout: Layout) -> str:
    """Numbered, so that folders sort as labels do, and whatever the class is called they cannot collide or climb."""
    return f"{label:0{len(str(len(layout.classes) - 1))}d}-{slug(layout.classes[label])}"


def blank(n: int) -> pd.DataFrame:
    """n rows that say nothing yet."""
    return pd.DataFrame(
        {name: pd.Series(["" if kind == "str" else 0] * n, dtype=kind) for name, kind in COLUMNS.items()}
    )


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of a set, in order and each of its type, whatever file they were read from."""
    return rows.loc[:, list(COLUMNS)].astype(COLUMNS)


# parquet


def _parquet(number: int, shard: Shard, layout: Layout) -> list[tuple[str, bytes]]:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = keys(shard.rows, layout)
    images = {"image": shard.x} | ({} if shard.clean is None else {"clean": shard.clean})
    columns: dict[str, pa.Array] = {}
    for column, x in images.items():
        paths = [f"{name}{ENDINGS[layout.encoding]}" for name in names]
        values = [{"bytes": encoded(one, layout.encoding), "path": path} for one, path in zip(x, paths, strict=True)]
        columns[column] = pa.array(values, kind)
    for column, dtype in COLUMNS.items():
        values = shard.rows[column].tolist()
        columns[column] = pa.array(values, pa.string() if dtype == "str" else pa.from_numpy_dtype(np.dtype(dtype)))
    features: dict[str, Any] = {name: {"_type": "Image"} for name in images}
    for column, dtype in COLUMNS.items():
        features[column] = {"dtype": "string" if dtype == "str" else dtype, "_type": "Value"}
    features["label"] = {"names": layout.classes, "_type": "ClassLabel"}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    file = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(told), file, compression="zstd")
    return [(files_of(number, layout), file.getvalue())]


def _read_parquet(path: Path, layout: Layout) -> Shard:
    table = pq.read_table(path)
    names = ("image", "clean") if layout.pairs else ("image",)
    images = []
    for column in names:
        cells = table.column(column).to_pylist()
        told = [f"{column} of row {k} of {path}" for k in range(len(cells))]
        images.append(
            _stack([decoded(cell["bytes"], layout.shape, name) for cell, name in zip(cells, told, strict=True)], layout)
        )
    rows = typed(table.drop_columns(list(names)).to_pandas())
    return Shard(rows, images[0], images[1] if layout.pairs else None)


# npz


def _npz(number: int, shard: Shard, layout: Layout) -> list[tuple[str, bytes]]:
    arrays = {"x": shard.x, "y": shard.rows.label.to_numpy()} | ({} if shard.clean is None else {"clean": shard.clean})
    for column, dtype in COLUMNS.items():
        arrays[column] = np.array(shard.rows[column].tolist(), dtype=np.str_ if dtype == "str" else dtype)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return [(files_of(number, layout), file.getvalue())]


def _read_npz(path: Path, layout: Layout) -> Shard:
    with np.load(path, allow_pickle=False) as arrays:
        rows = pd.DataFrame({name: arrays[name] for name in COLUMNS})
        return Shard(typed(rows), arrays["x"], arrays["clean"] if layout.pairs else None)


# webdataset


def _tar(number: int, shard: Shard, layout: Layout) -> list[tuple[str, bytes]]:
    file, ending = io.BytesIO(), ENDINGS[layout.encoding]
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for k, (key, row) in enumerate(zip(keys(shard.rows, layout), _records(shard.rows), strict=True)):
            members = {ending: encoded(shard.x[k], layout.encoding)}
            if shard.clean is not None:
                members[f".clean{ending}"] = encoded(shard.clean[k], layout.encoding)
            members |= {".cls": str(row["label"]).encode(), ".json": json.dumps(row, ensure_ascii=False).encode()}
            for end, content in members.items():
                member = tarfile.TarInfo(f"{key}{end}")  # its time is 0, its owner nobody
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return [(files_of(number, layout), file.getvalue())]


def _read_tar(path: Path, layout: Layout) -> Shard:
    rows, images, clean = [], [], []
    ending = ENDINGS[layout.encoding]
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            file = archive.extractfile(member)
            content = file.read() if file else b""
            if len(content) < member.size:
                raise InputError(f"{path} is cut short at {member.name}. Make the set again.")
            end = member.name[member.name.index(".") :]
            if end == ".json":
                rows.append(json.loads(content))
            elif end in (ending, f".clean{ending}"):
                (clean if end.startswith(".clean") else images).append(
                    decoded(content, layout.shape, f"{path}: {member.name}")
                )
    frame = typed(pd.DataFrame(rows)) if rows else blank(0)
    return Shard(frame, _stack(images, layout), _stack(clean, layout) if layout.pairs else None)


# imagefolder


def _images(number: int, shard: Shard, layout: Layout) -> list[tuple[str, bytes]]:
    ending, files = ENDINGS[layout.encoding], {}
    names = []
    for k, key in enumerate(keys(shard.rows, layout)):
        place = class_folder(int(shard.rows.label.iloc[k]), layout)
        names.append(f"{place}/{key}{ending}")
        files[f"images/{names[-1]}"] = encoded(shard.x[k], layout.encoding)
        if shard.clean is not None:
            files[f"clean/{_clean_name(names[-1])}"] = encoded(shard.clean[k], layout.encoding)
    rows = shard.rows.copy()
    rows.insert(0, "file_name", names)
    files[files_of(number, layout)] = rows.to_csv(index=False, lineterminator="\n").encode()
    return list(files.items())


def _clean_name(name: str) -> str:
    """One clean image serves all runs of an example."""
    place, _, file = name.partition("/")
    return f"{place}/{file.partition('-')[0]}{file[file.rindex('.') :]}"


def _read_images(path: Path, layout: Layout) -> Shard:
    frame, root = pd.read_csv(path, keep_default_na=False, dtype=EXACTLY), path.parent.parent

    def image(name: str) -> np.ndarray:
        file = root / name
        if not file.resolve().is_relative_to(root.resolve()):
            raise InputError(f"{path} names {name}, which is not in the set's folder.")
        return decoded(file.read_bytes(), layout.shape, str(file))

    names = frame.file_name.tolist()
    clean = [image(f"clean/{_clean_name(name)}") for name in names] if layout.pairs else []
    images = [image(f"images/{name}") for name in names]
    return Shard(typed(frame), _stack(images, layout), _stack(clean, layout) if layout.pairs else None)


def metadata(folder: Path, shards: int, layout: Layout) -> Iterator[bytes]:
    """The lines of images/metadata.csv: those of all shards, under one head."""
    for number in range(shards):
        with (folder / files_of(number, layout)).open("rb") as file:
            head = file.readline()
            yield from ([head] if number == 0 else [])
            yield from file


def _stack(images: list[np.ndarray], layout: Layout) -> np.ndarray:
    return np.stack(images) if images else np.zeros((0, *layout.shape), np.uint8)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {name: rows[name].tolist() for name in COLUMNS}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
