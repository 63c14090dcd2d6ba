"""What does a probe leave on disk, and how is it read again?

Everything is written into a folder beside the final one, which takes its place when it is complete.
"""

import json
import secrets
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from attacks.errors import InputError
from reports.reading import read_table
from reports.resume import is_full

FORMAT = 1
ABOUT, PICTURES, PAGE = "probe.json", "pictures.npz", "report.html"
TABLES = {
    "rays": ["model", "kind", "id", "label", "draw", "distance", "queries"],
    "geometry": [
        *("model", "id", "label", "rival", "margin", "slope", "linear", "found", "missed", "curvature", "hessian"),
        *("bend", "step", "queries", "backwards"),
    ],
    "walks": ["model", "id", "label", "queries", "size"],
}
FILES = (ABOUT, *(f"{name}.parquet" for name in TABLES), PICTURES, PAGE)
AGAIN = "Probe again."


@dataclass(frozen=True)
class Probe:
    """A finished probe, as plain data."""

    folder: Path
    about: dict[str, Any]  # probe.json
    rays: pd.DataFrame  # one row per model, kind of direction, example and draw
    geometry: pd.DataFrame  # one row per model and example
    walks: pd.DataFrame  # one row per model, example and look
    pictures: dict[str, np.ndarray]

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a probe. InputError where it is not one, is of another format, or is not whole."""
        folder = Path(folder)
        about = _about(folder)
        tables = {name: read_table(folder / f"{name}.parquet", columns, AGAIN) for name, columns in TABLES.items()}
        return cls(folder, about, **tables, pictures=_arrays(folder / PICTURES))


def write(probe: Probe, page: str, *, overwrite: bool = False) -> None:
    """Into probe.folder, whole or not at all. InputError as `refuse_to_harm`, and where the disk is full."""
    refuse_to_harm(probe.folder, overwrite)
    folder = probe.folder.resolve()
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    try:
        partial.mkdir(parents=True)
        text = json.dumps({"format": FORMAT, **probe.about}, indent=2, ensure_ascii=False, allow_nan=False)
        (partial / ABOUT).write_text(text + "\n", encoding="utf-8")
        for name in TABLES:
            getattr(probe, name).to_parquet(partial / f"{name}.parquet", index=False)
        np.savez_compressed(partial / PICTURES, allow_pickle=False, **probe.pictures)
        (partial / PAGE).write_text(page, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        if is_full(error):
            raise InputError(f"The disk is full: {folder} could not be written. Free some space.") from error
        raise InputError(f"{folder} cannot be written ({error.strerror}). Name another --out.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_to_harm(folder: Path, overwrite: bool) -> None:
    """InputError where the folder exists, unless it is empty or, with `overwrite`, holds a probe and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder for the probe that does not exist yet.")
    inside = {path.name for path in folder.iterdir()}
    if inside and not overwrite:
        raise InputError(f"The folder {folder} exists. Name another, or replace it with --overwrite.")
    foreign = sorted(inside - set(FILES))
    if inside and (foreign or ABOUT not in inside):
        what = f"holds {', '.join(foreign[:5])}" if foreign else f"holds no {ABOUT}"
        raise InputError(f"{folder} {what} and so is no probe that could be replaced. Name another folder.")


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no {ABOUT}. Name a folder that `advgan probe` wrote.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / ABOUT} cannot be read ({error}). {AGAIN}") from error
    if not isinstance(about, dict) or "models" not in about:
        raise InputError(f"{folder / ABOUT} is not a probe's. Name a folder that `advgan probe` wrote.")
    if about.get("format") != FORMAT:
        raise InputError(f"{folder} was written in format {about.get('format')}, this version reads {FORMAT}.")
    return about


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}). {AGAIN}") from error
