"""What does an audit leave on disk, and how is it read again?

Everything is written into a folder beside the final one, which takes its place when it is complete. Clock times and
durations stand in timings.parquet alone: every other file is the same bytes for the same run.
"""

import errno
import json
import secrets
import shutil
import time
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attacks.errors import InputError
from reports import doubts, summary, verdicts

FORMAT = 2
READABLE = (1, 2)  # format 1 knows no verdict
FILES = ("audit.json", "rows.parquet", "curves.parquet", "timings.parquet", "gallery.npz", "report.html")
CERTIFICATES = "certificates.parquet"  # not in format 1
FOLDER = "adversarial"
ROW_GROUP = 1 << 16  # rows; fixed, so that the bytes do not depend on how the rows came

ROW = np.dtype(
    [
        ("id", "<i8"),
        ("label", "<i8"),
        ("clean_prediction", "<i8"),
        ("correct", "?"),
        ("fooled", "?"),
        ("adversarial_prediction", "<i8"),
        ("size", "<f8"),
        ("margin", "<f8"),
        ("queries", "<i8"),
        ("backwards", "<i8"),
        ("passes", "<i8"),
        ("stage", "<i8"),
        ("doubts", "<i8"),
        ("gap", "<f8"),
    ]
)
UNSEEN = {"passes": -1, "stage": -1, "doubts": 0, "gap": float("nan")}  # of an attack that was not watched
CURVE = np.dtype([("id", "<i8"), ("correct", "?"), ("size", "<f8"), ("queries", "<i8"), ("backwards", "<i8")])
CERTIFICATE = np.dtype([("id", "<i8"), ("margin", "<f8"), ("certified", "?")])
GALLERY = {
    "x": np.float32,
    "x_adv": np.float32,
    "model": np.str_,
    "threat": np.str_,
    "attack": np.str_,
    "id": np.int64,
    "label": np.int64,
    "clean_prediction": np.int64,
    "clean_confidence": np.float64,
    "adversarial_prediction": np.int64,
    "adversarial_confidence": np.float64,
}


@dataclass(frozen=True)
class Audit:
    """A finished audit, as plain data."""

    folder: Path
    about: dict[str, Any]  # audit.json
    rows: pd.DataFrame  # one row per model, threat, attack and example
    curves: pd.DataFrame  # one row per model, norm and example
    timings: pd.DataFrame  # model, threat, attack, seconds
    certificates: pd.DataFrame  # one row per model, threat and example that bounds were tried for
    gallery: dict[str, np.ndarray]  # a few examples, for the pictures

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read an audit. InputError where it is not one, is of another format, or its files do not fit together."""
        folder = Path(folder)
        about = _read_about(folder)
        files = (*FILES, *((CERTIFICATES,) if about["format"] > 1 else ()), *_adversarial_files(about))
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder} is not a whole audit: {', '.join(missing[:5])} not found. Run the audit again.")
        audit = cls(
            folder=folder,
            about=about,
            rows=_read_rows(folder / "rows.parquet", about["format"]),
            curves=_read_table(folder / "curves.parquet", ["model", "norm", "attack", *(CURVE.names or ())]),
            timings=_read_table(folder / "timings.parquet", ["model", "threat", "attack", "seconds"]),
            certificates=_read_certificates(folder / CERTIFICATES, about["format"]),
            gallery=_read_arrays(folder / "gallery.npz", tuple(GALLERY)),
        )
        _check_fit(audit)
        return audit

    def adversarial(self, model: str, threat: str, attack: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids [m] int64 and the inputs [m, ...] float32 that one attack fooled the model with."""
        file = self.about["models"][model]["threats"][threat]["attacks"][attack]["file"]
        arrays = _read_arrays(self.folder / file, ("id", "x"))
        return arrays["id"], arrays["x"]


class Writer:
    """Writes an audit as it goes on; memory does not grow with the number of examples.

    A context manager: `with Writer(folder) as writer: writer.add(...); writer.finish(about)`. Nothing is left behind
    where the block ends in any other way. InputError where the folder exists (unless `overwrite`, and then only where
    it holds an audit and nothing else, or is empty), where it cannot be made, and where the disk is full.

    writing: the folder that is written and then moved, on the same disk; None is one of its own beside `folder`.
    """

    def __init__(self, folder: Path | str, *, overwrite: bool = False, writing: Path | None = None):
        self.folder = Path(folder).resolve()
        self.overwrite, self.writing = overwrite, writing
        self._refuse_to_harm()

    def __enter__(self) -> Self:
        self._made = [parent for parent in self.folder.parents if not parent.exists()]
        beside = self.folder.parent / f".{self.folder.name}.{secrets.token_hex(4)}.part"
        self._partial = self.writing or beside
        self._rows: dict[tuple[str, str, str], _Spool] = {}
        self._inputs: dict[tuple[str, str, str], _Spool] = {}
        self._curves: dict[tuple[str, str, str], _Spool] = {}
        self._certificates: dict[tuple[str, str], _Spool] = {}
        self._seconds: dict[tuple[str, str, str], float] = {}
        self._gallery: list[dict[str, Any]] = []
        self._started, self._clock = datetime.now(UTC), time.perf_counter()
        try:
            (self._partial / "spool").mkdir(parents=True)
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise InputError(f"{self.folder} cannot be written ({error.strerror}). Name another --out.") from error
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._discard()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"The disk is full: {self.folder} could not be written, and nothing of it was left behind. "
                "Free some space, name another --out, or audit fewer --examples."
            ) from error

    def add(
        self,
        model: str,
        threat: str,
        attack: str,
        *,
        ids: np.ndarray,
        labels: np.ndarray,
        clean_prediction: np.ndarray,
        correct: np.ndarray,
        fooled: np.ndarray,
        adversarial_prediction: np.ndarray,
        size: np.ndarray,
        margin: np.ndarray,
        queries: np.ndarray,
        backwards: np.ndarray,
        passes: np.ndarray,
        x_adv: np.ndarray,
        seconds: float,
        stage: np.ndarray | None = None,
        doubts: np.ndarray | None = None,
        gap: np.ndarray | None = None,
    ) -> None:
        """One batch of one attack: arrays [b], x_adv [b, ...] float32. Batches may come in any order and size.

        stage, doubts, gap: what the loop saw; None where it did not look.
        """
        key = (model, threat, attack)
        columns = (ids, labels, clean_prediction, correct, fooled, adversarial_prediction)
        columns += (size, margin, queries, backwards, passes)
        for name, column in {"stage": stage, "doubts": doubts, "gap": gap}.items():
            columns += (np.full(len(ids), UNSEEN[name]) if column is None else column,)
        self._spool(self._rows, key, ROW).append(_records(ROW, columns))
        x = np.asarray(x_adv, dtype=np.float32)
        shape = np.dtype((np.float32, x.shape[1:]))
        self._spool(self._inputs, key, shape).append(x[np.asarray(fooled, dtype=bool)])
        self._seconds[key] = self._seconds.get(key, 0.0) + float(seconds)

    def add_curve(
        self,
        model: str,
        norm: str,
        attack: str,
        *,
        ids: np.ndarray,
        correct: np.ndarray,
        size: np.ndarray,
        queries: np.ndarray,
        backwards: np.ndarray,
        seconds: float,
    ) -> None:
        """One batch of smallest perturbations: arrays [b]; size 0 where already wrong, inf where none was found."""
        records = _records(CURVE, (ids, correct, size, queries, backwards))
        self._spool(self._curves, (model, norm, attack), CURVE).append(records)
        key = (model, f"{norm}:inf", attack)
        self._seconds[key] = self._seconds.get(key, 0.0) + float(seconds)

    def add_certificates(
        self, model: str, threat: str, *, ids: np.ndarray, margin: np.ndarray, certified: np.ndarray, seconds: float
    ) -> None:
        """One batch of examples that bounds were tried for: arrays [b]; margin NaN where none was needed."""
        key = (model, threat)
        records = _records(CERTIFICATE, (ids, margin, certified))
        self._spool(self._certificates, key, CERTIFICATE).append(records)
        timed = (model, threat, "certify")
        self._seconds[timed] = self._seconds.get(timed, 0.0) + float(seconds)

    def add_to_gallery(self, **one_example: Any) -> None:
        """One example for the pictures. Names: x and x_adv [...], and those of GALLERY. TypeError for any others."""
        if one_example.keys() != GALLERY.keys():
            odd = sorted(one_example.keys() ^ GALLERY.keys())
            raise TypeError(
                f"An example of the gallery has {', '.join(GALLERY)}; missing or unknown: {', '.join(odd)}."
            )
        self._gallery.append(one_example)

    def finish(self, about: dict[str, Any], seconds: float | None = None) -> Audit:
        """Compute the summary, write every file, and move the folder to its place.

        seconds: that all of it took; None is since the writer began.

        about: "configuration", "versions", "data", "models" {name: {"sha256", "parameters"}}, "preflight" {name:
        findings} and, where the caller has them, "noise" {name: as reports.noise tells it} and "doubts" of its own.
        """
        from reports.pages.audit import page

        if not self._rows:
            raise InputError("The audit has no rows: at least one attack must see at least one example.")
        files = self._write_adversarial()
        self._write_table("rows.parquet", ("model", "threat", "attack"), ROW, self._rows)
        self._write_table("curves.parquet", ("model", "norm", "attack"), CURVE, self._curves)
        self._write_table(CERTIFICATES, ("model", "threat"), CERTIFICATE, self._certificates)
        self._write_gallery()
        shutil.rmtree(self._partial / "spool")
        rows = pd.read_parquet(self._partial / "rows.parquet")
        curves = pd.read_parquet(self._partial / "curves.parquet")
        certificates = pd.read_parquet(self._partial / CERTIFICATES)
        models = summary.numbers(about, rows, curves, files)
        for name, by_norm in about.get("noise", {}).items():
            models[name] |= {"noise": by_norm} if by_norm else {}
        for name, by_threat in verdicts.numbers(rows, curves, certificates, about.get("configuration", {})).items():
            for threat, told in by_threat.items():
                models[name]["threats"][threat] |= told
        whole = {
            "format": FORMAT,
            **{name: about.get(name, {}) for name in ("configuration", "versions", "data", "preflight")},
            "models": models,
            "doubts": [*about.get("doubts", []), *doubts.doubts(about, rows, curves)],
        }
        text = json.dumps(_plain(whole), indent=2, sort_keys=False, ensure_ascii=False, allow_nan=False)
        (self._partial / "audit.json").write_text(text + "\n", encoding="utf-8")
        gallery = _read_arrays(self._partial / "gallery.npz", tuple(GALLERY))
        audit = Audit(self.folder, json.loads(text), rows, curves, self._write_timings(seconds), certificates, gallery)
        (self._partial / "report.html").write_text(page.page(audit), encoding="utf-8")
        self._put_in_place()
        return audit

    def _refuse_to_harm(self) -> None:
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file. Name a folder for the audit that does not exist yet.")
        inside = {path.name for path in self.folder.iterdir()}
        if not self.overwrite:
            raise InputError(f"The folder {self.folder} exists. Name another, or replace it with --overwrite.")
        if not inside:
            return
        if not _is_audit(self.folder):
            raise InputError(
                f"{self.folder} is not an audit (no audit.json of ours), so it is not replaced. Name another."
            )
        foreign = sorted(inside - {*FILES, CERTIFICATES, FOLDER})
        if foreign:
            raise InputError(
                f"{self.folder} holds files that no audit writes ({', '.join(foreign[:5])}), so it is not replaced. "
                "Move them away, or name another folder."
            )

    def _spool(self, spools: dict, key: tuple[str, ...], dtype: np.dtype) -> "_Spool":
        if key not in spools:
            kinds = {"rows": self._rows, "inputs": self._inputs, "curves": self._curves}
            kind = next((name for name, these in kinds.items() if these is spools), "certificates")
            spools[key] = _Spool(self._partial / "spool" / f"{kind}-{len(spools)}.bin", dtype)
        if spools[key].dtype != dtype:
            raise ValueError(f"{key}: a batch of other shape than those before it ({dtype.shape}).")
        return spools[key]

    def _write_adversarial(self) -> dict[tuple[str, str, str], str]:
        (self._partial / FOLDER).mkdir()
        files: dict[tuple[str, str, str], str] = {}
        for key, spool in self._inputs.items():
            rows = self._rows[key].load()
            ids = rows["id"][rows["fooled"]]
            order = np.argsort(ids, kind="stable")
            files[key] = _free_name(key, files)
            _write_npz(self._partial / files[key], ids[order], spool, order)
            spool.path.unlink(missing_ok=True)
        return files

    def _write_table(self, file: str, names: tuple[str, ...], dtype: np.dtype, spools: dict) -> None:
        keys = [list(dict.fromkeys(key[k] for key in spools)) for k in range(len(names))]
        fields = [(name, pa.dictionary(pa.int32(), pa.string())) for name in names]
        fields += [(name, pa.from_numpy_dtype(dtype[name])) for name in dtype.names or ()]
        with pq.ParquetWriter(self._partial / file, pa.schema(fields), compression="zstd") as writer:
            for key in sorted(spools, key=lambda key: [keys[k].index(key[k]) for k in range(len(names))]):
                records = spools[key].load()
                records = records[np.argsort(records["id"], kind="stable")]
                if len(np.unique(records["id"])) < len(records):
                    raise ValueError(f"{key}: an example was added twice.")
                for start in range(0, len(records), ROW_GROUP):
                    writer.write_table(_table(writer.schema, names, keys, key, records[start : start + ROW_GROUP]))

    def _write_gallery(self) -> None:
        order = {key: k for k, key in enumerate(self._rows)}
        place = len(order)
        examples = sorted(
            self._gallery, key=lambda e: (order.get((e["model"], e["threat"], e["attack"]), place), int(e["id"]))
        )
        arrays = {
            name: np.array([example[name] for example in examples], dtype=dtype) for name, dtype in GALLERY.items()
        }
        np.savez_compressed(self._partial / "gallery.npz", allow_pickle=False, **arrays)

    def _write_timings(self, whole: float | None) -> pd.DataFrame:
        seconds = dict(self._seconds)
        for model, _, _ in self._seconds:
            seconds[(model, "", "")] = sum(t for (name, _, _), t in self._seconds.items() if name == model)
        seconds[("", "", "")] = time.perf_counter() - self._clock if whole is None else whole
        columns = list(zip(*seconds, strict=True))
        table = pa.table(
            {
                "model": pa.array(columns[0], pa.string()),
                "threat": pa.array(columns[1], pa.string()),
                "attack": pa.array(columns[2], pa.string()),
                "seconds": pa.array(list(seconds.values()), pa.float64()),
            }
        ).replace_schema_metadata({"started_at": self._started.isoformat(timespec="seconds")})
        pq.write_table(table, self._partial / "timings.parquet")
        return pd.read_parquet(self._partial / "timings.parquet")

    def _put_in_place(self) -> None:
        self._refuse_to_harm()
        if not self.folder.exists():
            self._partial.rename(self.folder)
            return
        old = self._partial.with_suffix(".old")
        self.folder.rename(old)
        try:
            self._partial.rename(self.folder)
        except BaseException:
            old.rename(self.folder)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _discard(self) -> None:
        if self._partial.exists():
            shutil.rmtree(self._partial, ignore_errors=True)
        for parent in self._made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


class _Spool:
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


def _records(dtype: np.dtype, columns: tuple[np.ndarray, ...]) -> np.ndarray:
    records = np.zeros(len(columns[0]), dtype)
    for name, column in zip(dtype.names or (), columns, strict=True):
        if np.shape(column) != records.shape:
            raise ValueError(f"{name} has shape {list(np.shape(column))}, the batch has {len(records)} rows.")
        records[name] = column
    return records


def _table(schema: pa.Schema, names: tuple, keys: list[list[str]], key: tuple, records: np.ndarray) -> pa.Table:
    def constant(k: int) -> pa.Array:
        where = np.full(len(records), keys[k].index(key[k]), np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(where), pa.array(keys[k], pa.string()))

    columns = [constant(k) for k in range(len(names))]
    columns += [pa.array(np.ascontiguousarray(records[name])) for name in records.dtype.names or ()]
    return pa.Table.from_arrays(columns, schema=schema)


def _free_name(key: tuple[str, str, str], taken: dict) -> str:
    """The file for one attack's inputs; what cannot stand in a file's name becomes an underscore."""
    plain = ".".join("".join("_" if c in "/\\" or not c.isprintable() else c for c in part) for part in key)
    stem = plain.encode()[:200].decode(errors="ignore").lstrip(".")
    names = [f"{FOLDER}/{stem}.npz", *(f"{FOLDER}/{stem}.{k}.npz" for k in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken.values())


def _write_npz(path: Path, ids: np.ndarray, spool: _Spool, order: np.ndarray) -> None:
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


def _plain(value: Any) -> Any:
    """The same value in JSON's types; a float that is not finite becomes None."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _is_audit(folder: Path) -> bool:
    try:
        _read_about(folder, any_format=True)
    except InputError:
        return False
    return True


def _read_about(folder: Path, *, any_format: bool = False) -> dict[str, Any]:
    try:
        about = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no audit.json. Name a folder that `advgan audit` wrote.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'audit.json'} cannot be read ({error}). Run the audit again.") from error
    if not isinstance(about, dict) or not {"format", "models", "data"} <= about.keys():
        raise InputError(f"{folder / 'audit.json'} is not an audit's. Name a folder that `advgan audit` wrote.")
    if about["format"] not in READABLE and not any_format:
        raise InputError(
            f"{folder} was written in format {about['format']}, this version reads {' and '.join(map(str, READABLE))}. "
            "Read it with the version that wrote it, or run the audit again."
        )
    return about


def _adversarial_files(about: dict[str, Any]) -> list[str]:
    return [
        attack["file"]
        for model in about["models"].values()
        for threat in model["threats"].values()
        for attack in threat["attacks"].values()
    ]


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}). Run the audit again.") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}. Run the audit again.")
    return frame


def _read_rows(path: Path, format_: int) -> pd.DataFrame:
    """rows.parquet; the columns that a format did not have yet say that nothing was seen."""
    names = [name for name in ROW.names or () if format_ > 1 or name not in UNSEEN]
    frame = _read_table(path, ["model", "threat", "attack", *names])
    return frame if format_ > 1 else frame.assign(**UNSEEN)


def _read_certificates(path: Path, format_: int) -> pd.DataFrame:
    names = ["model", "threat", *(CERTIFICATE.names or ())]
    return _read_table(path, names) if format_ > 1 else pd.DataFrame(columns=names)


def _read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}). Run the audit again.") from error


def _check_fit(audit: Audit) -> None:
    """The rows must be those that audit.json speaks of."""
    counts = audit.rows.groupby(["model", "threat", "attack"], observed=True).size().to_dict()
    told = {
        (name, threat, attack): model["n"]
        for name, model in audit.about["models"].items()
        for threat, found in model["threats"].items()
        for attack in found["attacks"]
    }
    if counts != told:
        odd = next(key for key in {**counts, **told} if counts.get(key) != told.get(key))
        raise InputError(
            f"{audit.folder} does not fit together: rows.parquet has {counts.get(odd, 0)} rows of {', '.join(odd)}, "
            f"audit.json speaks of {told.get(odd, 0)}. Run the audit again."
        )
