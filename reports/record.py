"""What does an audit leave on disk, and how is it read again?"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from attacks.errors import InputError
from reports.reading import read_table

FORMAT = 2
READABLE = (1, 2)  # format 1 knows no verdict
FILES = ("audit.json", "rows.parquet", "curves.parquet", "timings.parquet", "gallery.npz", "report.html")
CERTIFICATES = "certificates.parquet"  # not in format 1
FOLDER = "adversarial"
AGAIN = "Run the audit again."

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
            raise InputError(f"{folder} is not a whole audit: {', '.join(missing[:5])} not found. {AGAIN}")
        audit = cls(
            folder=folder,
            about=about,
            rows=_read_rows(folder / "rows.parquet", about["format"]),
            curves=read_table(folder / "curves.parquet", ["model", "norm", "attack", *(CURVE.names or ())], AGAIN),
            timings=read_table(folder / "timings.parquet", ["model", "threat", "attack", "seconds"], AGAIN),
            certificates=_read_certificates(folder / CERTIFICATES, about["format"]),
            gallery=read_arrays(folder / "gallery.npz", tuple(GALLERY)),
        )
        _check_fit(audit)
        return audit

    def adversarial(self, model: str, threat: str, attack: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids [m] int64 and the inputs [m, ...] float32 that one attack fooled the model with."""
        file = self.about["models"][model]["threats"][threat]["attacks"][attack]["file"]
        arrays = read_arrays(self.folder / file, ("id", "x"))
        return arrays["id"], arrays["x"]


def is_audit(folder: Path) -> bool:
    """Of whatever format."""
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
        raise InputError(f"{folder / 'audit.json'} cannot be read ({error}). {AGAIN}") from error
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


def _read_rows(path: Path, format_: int) -> pd.DataFrame:
    """rows.parquet; the columns that a format did not have yet say that nothing was seen."""
    names = [name for name in ROW.names or () if format_ > 1 or name not in UNSEEN]
    frame = read_table(path, ["model", "threat", "attack", *names], AGAIN)
    return frame if format_ > 1 else frame.assign(**UNSEEN)


def _read_certificates(path: Path, format_: int) -> pd.DataFrame:
    names = ["model", "threat", *(CERTIFICATE.names or ())]
    return read_table(path, names, AGAIN) if format_ > 1 else pd.DataFrame(columns=names)


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """InputError where the npz file is not whole or lacks some."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}). {AGAIN}") from error


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
            f"audit.json speaks of {told.get(odd, 0)}. {AGAIN}"
        )
