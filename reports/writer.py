"""How is an audit written as it goes on?

Clock times and durations stand in timings.parquet alone: every other file is the same bytes for the same run.
"""

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attacks.errors import InputError
from reports import doubts, summary, verdicts
from reports.record import (
    CERTIFICATE,
    CERTIFICATES,
    CURVE,
    FOLDER,
    FORMAT,
    GALLERY,
    ROW,
    UNSEEN,
    Audit,
    read_arrays,
)
from reports.replacing import SPOOL, Replacing
from reports.spool import Spool, records_of, write_npz, write_table


class Writer:
    """Writes an audit as it goes on; memory does not grow with the number of examples.

    A context manager: `with Writer(folder) as writer: writer.add(...); writer.finish(about)`. Nothing is left behind
    where the block ends in any other way. overwrite, writing, and when InputError is raised: see `Replacing`.
    """

    def __init__(self, folder: Path | str, *, overwrite: bool = False, writing: Path | None = None):
        self.folder = Path(folder).resolve()
        self._place = Replacing(self.folder, overwrite, writing)
        self._partial = self._place.path

    def __enter__(self) -> Self:
        self._rows: dict[tuple[str, str, str], Spool] = {}
        self._inputs: dict[tuple[str, str, str], Spool] = {}
        self._curves: dict[tuple[str, str, str], Spool] = {}
        self._certificates: dict[tuple[str, str], Spool] = {}
        self._seconds: dict[tuple[str, str, str], float] = {}
        self._gallery: list[dict[str, Any]] = []
        self._started, self._clock = datetime.now(UTC), time.perf_counter()
        self._place.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._place.__exit__(kind, error, trace)

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
        self._spool(self._rows, key, ROW).append(records_of(ROW, columns))
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
        records = records_of(CURVE, (ids, correct, size, queries, backwards))
        self._spool(self._curves, (model, norm, attack), CURVE).append(records)
        key = (model, f"{norm}:inf", attack)
        self._seconds[key] = self._seconds.get(key, 0.0) + float(seconds)

    def add_certificates(
        self, model: str, threat: str, *, ids: np.ndarray, margin: np.ndarray, certified: np.ndarray, seconds: float
    ) -> None:
        """One batch of examples that bounds were tried for: arrays [b]; margin NaN where none was needed."""
        key = (model, threat)
        records = records_of(CERTIFICATE, (ids, margin, certified))
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
        shutil.rmtree(self._partial / SPOOL)
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
        gallery = read_arrays(self._partial / "gallery.npz", tuple(GALLERY))
        audit = Audit(self.folder, json.loads(text), rows, curves, self._write_timings(seconds), certificates, gallery)
        (self._partial / "report.html").write_text(page.page(audit), encoding="utf-8")
        self._place.put_in_place()
        return audit

    def _spool(self, spools: dict, key: tuple[str, ...], dtype: np.dtype) -> Spool:
        if key not in spools:
            kinds = {"rows": self._rows, "inputs": self._inputs, "curves": self._curves}
            kind = next((name for name, these in kinds.items() if these is spools), "certificates")
            spools[key] = Spool(self._partial / SPOOL / f"{kind}-{len(spools)}.bin", dtype)
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
            write_npz(self._partial / files[key], ids[order], spool, order)
            spool.path.unlink(missing_ok=True)
        return files

    def _write_table(self, file: str, names: tuple[str, ...], dtype: np.dtype, spools: dict) -> None:
        write_table(self._partial / file, names, dtype, spools)

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


def _free_name(key: tuple[str, str, str], taken: dict) -> str:
    """The file for one attack's inputs; what cannot stand in a file's name becomes an underscore."""
    plain = ".".join("".join("_" if c in "/\\" or not c.isprintable() else c for c in part) for part in key)
    stem = plain.encode()[:200].decode(errors="ignore").lstrip(".")
    names = [f"{FOLDER}/{stem}.npz", *(f"{FOLDER}/{stem}.{k}.npz" for k in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken.values())


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
